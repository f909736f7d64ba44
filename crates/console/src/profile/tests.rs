use std::os::unix::fs::PermissionsExt as _;

use sheaf_model::TokenId;

use super::*;
use crate::output::recorded;

const FILE: &str = "default = \"prod\"\n[profiles.prod]\naddress = \"10.0.0.11:7420\"\n[profiles.lab]\naddress = \"lab:1\"\n";

fn asked(
    address: Option<&str>,
    profile: Option<&str>,
    variable: Option<&str>,
    file: &str,
) -> Result<String, Failure> {
    let place = tempfile::tempdir().expect("a directory");
    let config = place.path().join("config.toml");
    std::fs::write(&config, file).expect("written");
    let text = |text: Option<&str>| text.map(str::to_owned);
    let options = Options { address: text(address), profile: text(profile), ..Options::default() };
    let environment = Environment { address: text(variable), config: Some(config), ..Environment::default() };
    super::place(&options, &environment).map(|profile| profile.address)
}

fn token(n: u8) -> TokenText {
    TokenText::new(TokenId([n; 6]), [n; 32], None)
}

#[test]
fn what_is_said_nearer_wins() {
    let good =
        |address, profile, variable, file| asked(address, profile, variable, file).expect("an address");
    assert_eq!(good(Some("a:1"), None, Some("b:1"), FILE), "a:1");
    assert_eq!(good(None, Some("lab"), Some("b:1"), FILE), "lab:1");
    assert_eq!(good(None, None, Some("b:1"), FILE), "b:1");
    assert_eq!(good(None, None, None, FILE), "10.0.0.11:7420");
    assert_eq!(good(None, None, None, ""), DEFAULT_ADDRESS);
    let nowhere = Environment { config: Some("/nonexistent/config.toml".into()), ..Environment::default() };
    assert_eq!(place(&Options::default(), &nowhere).expect("the default").address, DEFAULT_ADDRESS);
}

#[test]
fn an_unknown_profile_is_wrong_usage() {
    let error = asked(None, Some("stage"), None, FILE).expect_err("there is none");
    assert_eq!(error.exit().code(), 2);
    assert!(error.to_string().starts_with("there is no profile \"stage\"; "), "{error}");
    assert_eq!(asked(Some("a:1"), Some("lab"), None, FILE).expect_err("both").exit().code(), 2);
}

#[test]
fn a_bad_file_is_refused_with_everything_that_is_wrong() {
    let file = "defualt = 1\n[profiles.a]\nadress = \"x\"\ntoken = \"hunter2\"\n";
    let text = asked(None, None, None, file).expect_err("all of it").to_string();
    assert!(text.contains("config.toml: defualt: is no known key; "), "{text}");
    assert!(text.contains("config.toml: profiles.a.adress: is no known key; "), "{text}");
    assert!(text.contains("config.toml: profiles.a.address: is missing; "), "{text}");
    assert!(text.contains("config.toml: profiles.a.token: what is given is no token"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert!(asked(None, None, None, "[").is_err());
}

#[test]
fn a_profile_is_written_for_its_owner_alone_and_the_others_stay() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("new/sheaf/config.toml");
    let entry = |name: &str, n| Entry {
        name: name.to_owned(),
        address: format!("{name}:1"),
        token: token(n),
        authority: Some("-----BEGIN CERTIFICATE-----\nx\n".to_owned()).filter(|_| n == 2),
    };
    for (name, n) in [("prod", 1), ("lab", 2), ("prod", 3)] {
        write(&path, &entry(name, n)).expect("written");
    }
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    let files = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder").count();
    assert_eq!(files, 1, "nothing is left beside it");

    let environment = Environment { config: Some(path.clone()), ..Environment::default() };
    let meant = |profile: Option<&str>, address: Option<&str>| {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let options = Options { profile: text(profile), address: text(address), ..Options::default() };
        super::meant(&options, &environment, &mut recorded::terminal("").0).expect("a profile")
    };
    let default = meant(None, None);
    assert_eq!((default.name.as_deref(), default.token), (Some("prod"), Some(token(3))));
    assert!(meant(Some("lab"), None).authority.is_some_and(|pem| pem.starts_with("-----BEGIN")));
    assert_eq!(meant(None, Some("lab:1")).token, Some(token(2)), "known by its address");
    assert_eq!(meant(None, Some("elsewhere:1")).token, None, "no token goes to another cluster");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("changed");
    let error = super::place(&Options::default(), &environment).expect_err("open").to_string();
    assert!(error.contains("holds a token and has mode 0640: others could read it; chmod 600 "), "{error}");
}

#[test]
fn a_token_is_given_by_a_file_the_environment_or_stdin_and_said_nowhere() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("token");
    std::fs::write(&file, token(1).reveal() + "\n").expect("written");
    let mode =
        |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("changed");
    mode(0o600);
    let environment = Environment {
        token: Some(Unsaid(token(2).reveal())),
        token_file: Some(file.clone()),
        ..Environment::default()
    };
    let given = |token_file: Option<&str>, environment: &Environment, input: &str| {
        let options = Options { token_file: token_file.map(PathBuf::from), ..Options::default() };
        super::given(&options, environment, &mut recorded::terminal(input).0)
    };
    assert_eq!(given(file.to_str(), &environment, "").expect("of the file"), Some(token(1)));
    assert_eq!(given(None, &environment, "").expect("of SHEAF_TOKEN"), Some(token(2)));
    let only_file = Environment { token: None, ..environment.clone() };
    assert_eq!(given(None, &only_file, "").expect("of SHEAF_TOKEN_FILE"), Some(token(1)));
    mode(0o644);
    for environment in [&environment, &only_file] {
        let asked = file.to_str().filter(|_| environment.token.is_some());
        let error = given(asked, environment, "").expect_err("others can read it").to_string();
        assert!(
            error.contains("holds a token and has mode 0644: others could read it; chmod 600 "),
            "{error}"
        );
    }
    let none = Environment::default();
    assert_eq!(given(Some("-"), &none, &token(3).reveal()).expect("of stdin"), Some(token(3)));
    assert_eq!(given(None, &none, "").expect("none"), None);

    let bad = Environment { token: Some(Unsaid("hunter2".to_owned())), ..none.clone() };
    let error = given(None, &bad, "").expect_err("no token");
    assert_eq!(error.exit().code(), 2);
    assert!(error.to_string().starts_with("SHEAF_TOKEN holds no token; one looks like "), "{error}");
    assert!(!format!("{error} {bad:?} {environment:?}").contains("hunter2"));
    assert!(given(Some("/nonexistent"), &none, "").is_err());
}

#[test]
fn a_certificate_stands_in_a_profile_as_a_token_does() {
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("config.toml");
    let vera = super::certificate::tests::somebody();
    write_certificate(&path, "prod", "prod:1", &vera).expect("written");
    let environment = Environment { config: Some(path.clone()), ..Environment::default() };
    let meant = |options: &Options, environment: &Environment| {
        super::meant(options, environment, &mut recorded::terminal("").0)
    };
    let by_address = |address: &str| Options { address: Some(address.to_owned()), ..Options::default() };
    let known = meant(&by_address("prod:1"), &environment).expect("a profile");
    assert_eq!((known.token, known.certificate), (None, Some(vera)));
    assert_eq!(meant(&by_address("elsewhere:1"), &environment).expect("none").certificate, None);
    let with_token = Environment { token: Some(Unsaid(token(1).reveal())), ..environment.clone() };
    let given = meant(&by_address("prod:1"), &with_token).expect("a token");
    assert_eq!((given.token, given.certificate), (Some(token(1)), None), "what is given beside it counts");
    let file = place.path().join("vera.pem");
    let other = super::certificate::tests::somebody();
    std::fs::write(&file, other.reveal()).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let options = Options { certificate_file: Some(file), ..by_address("prod:1") };
    let given = meant(&options, &with_token).expect("a certificate");
    assert_eq!((given.token, given.certificate), (None, Some(other)));

    // The cluster has another authority since: the profile believes it from now on, and its owner is told the rest.
    let used = meant(&by_address("prod:1"), &environment).expect("a profile");
    let (mut out, said) = recorded::terminal("");
    follow(&by_address("prod:1"), &environment, &used, vec![0x30, 0], &mut out);
    let kept = meant(&by_address("prod:1"), &environment).expect("a profile");
    assert_eq!(kept.certificate.as_ref().map(Certificate::authority), Some(&[0x30, 0][..]));
    let said = said.talk();
    assert!(
        said.contains("profile prod knows the new one") && said.contains("is by the former authority"),
        "{said}"
    );

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let error = super::place(&Options::default(), &environment).expect_err("open").to_string();
    assert!(error.contains("holds a key and has mode 0644"), "{error}");
    std::fs::write(&path, "[profiles.a]\naddress = \"a:1\"\ncertificate = \"hunter2\"\n").expect("written");
    let text = super::place(&Options::default(), &environment).expect_err("none").to_string();
    assert!(text.contains("profiles.a.certificate: ") && !text.contains("hunter2"), "{text}");
}
