use proptest::prelude::*;

use super::*;

fn check(rules: &[&str], hostname: &str, labels: &[&str]) -> Result<String, String> {
    let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
    NodeListRules::parse(rules).expect("well-formed rules").compile().check(hostname, &labels)
}

/// The documented truth table, line by line: rules, hostname, labels, available.
#[test]
fn the_truth_table_holds() {
    const ANY: &[&str] = &["gpu", "zone=a"];
    #[rustfmt::skip]
    let table: &[(&[&str], &str, &[&str], bool)] = &[
        (&[],                                   "web1",             &[],                  true),
        (&[],                                   "web1",             ANY,                  true),
        (&["web1"],                             "web1",             &[],                  true),
        (&["web1"],                             "web10",            &[],                  false),
        (&["web1"],                             "db1",              &[],                  false),
        (&["-web1"],                            "web1",             &[],                  false),
        (&["-web1"],                            "db1",              &[],                  true),
        (&["web*", "-web3"],                    "web1",             &[],                  true),
        (&["web*", "-web3"],                    "web3",             &[],                  false),
        (&["web*", "-web3"],                    "db1",              &[],                  false),
        (&["-a*", "-b*"],                       "a1",               &[],                  false),
        (&["-a*", "-b*"],                       "b1",               &[],                  false),
        (&["-a*", "-b*"],                       "c1",               &[],                  true),
        (&["WEB3"],                             "web3",             &[],                  true),
        (&["web3"],                             "web3.example.com", &[],                  true),
        (&["/eb/"],                             "web3",             &[],                  true),
        (&["/^WEB\\d+$/"],                      "web3",             &[],                  false),
        (&["/^WEB\\d+$/i"],                     "web3",             &[],                  true),
        (&["$host1*"],                          "h",                &["host1.aaa"],       true),
        (&["-$host1*"],                         "h",                &["host2.aaa"],       true),
        (&["-$host1*"],                         "h",                &[],                  true),
        (&["-$host1*"],                         "h",                &["host1.aaa", "x"],  false),
        (&["$host1*", "$host2*", "host1*", "h"], "h",               &["host2.aaa"],       true),
        (&["$host1*", "host1*"],                "h",                &["host5.aaa"],       false),
        (&["web[12]"],                          "web2",             &[],                  false),
        (&["web[12]"],                          "web[12]",          &[],                  true),
    ];
    for (rules, hostname, labels, available) in table {
        let verdict = check(rules, hostname, labels);
        assert_eq!(verdict.is_ok(), *available, "{rules:?} on {hostname} {labels:?}: {verdict:?}");
    }
}

/// The table's last line, and each other way to be malformed: the rule, the position, what is said of it.
#[test]
fn a22_malformed_rules_are_refused_with_their_position() {
    #[rustfmt::skip]
    let table: &[(&str, usize, &str)] = &[
        ("/abc",         1, "the / is never closed"),
        ("/",            1, "the / is never closed"),
        ("-",            2, "nothing follows \"-\""),
        ("+$",           3, "nothing follows \"+$\""),
        ("",             1, "the rule is empty"),
        ("/a(/",         3, "unclosed group"),
        ("-$/a\\/b(/",   8, "unclosed group"),
        ("//",           2, "the expression is empty"),
        ("/a/q",         4, "unknown flag 'q'"),
        ("/a/b/",        4, "unknown flag 'b'"),
        ("/a/I",         4, "unknown flag 'I'"),
        ("/abc\\/",      1, "the / is never closed"),
        ("/a\\",         1, "the / is never closed"),
        ("/é{2,1}/",     3, "invalid repetition count range"),
        ("/[z-a]/",      3, "invalid character class range"),
        ("/(?<n>a)(?=b)/", 9, "look-around"),
        ("/\\w{1000}{9}/", 2, "too large once compiled"),
        (" web1",        1, "white space"),
        ("web1 ",        5, "white space"),
    ];
    for (rule, position, problem) in table {
        let error = NodeRule::parse(rule).expect_err(rule);
        assert_eq!(error.rule, *rule);
        assert!(error.problem.contains(problem), "{rule}: {error:?}");
        assert_eq!(error.position, *position, "{rule}: {error:?}");
        assert!(!error.remedy.is_empty(), "{rule}");
    }
    assert_eq!(NodeRule::parse("/abc").expect_err("unclosed").remedy, "/abc/");
    let long = NodeRule::parse(&"a".repeat(RULE_MAX + 1)).expect_err("too long");
    assert!(long.problem.contains("1001 bytes"), "{long}");
    assert!(long.to_string().len() < 200, "what is shown stays short: {long}");
}

#[test]
fn none_of_too_many_rules_is_read() {
    let many = |text: &str, count: usize| NodeListRules::parse(&vec![text; count]);
    assert!(many("import-*", RULES_MAX).is_ok() && many("-$/gpu/", EXPRESSIONS_MAX).is_ok());
    for (text, count, place, problem) in [
        ("web1", RULES_MAX + 1, RULES_MAX, "there are more than 1000 rules"),
        ("/a(/", 5_000, EXPRESSIONS_MAX, "there are more than 64 expressions among the rules"),
        ("-$/a/i", 5_000, EXPRESSIONS_MAX, "there are more than 64 expressions among the rules"),
    ] {
        let errors = many(text, count).expect_err(text);
        let [(index, error)] = errors.as_slice() else { panic!("one error: {errors:?}") };
        assert_eq!((*index, error.problem.as_str()), (place, problem), "{text}");
    }
}

#[test]
fn an_expression_that_was_registered_when_it_could_be_larger_is_still_understood() {
    let source = "\\w{12}".to_owned();
    NodeRule::parse(&format!("/{source}/")).expect_err("it is too large today");
    let pattern = Pattern::Regex { source, flags: String::new() };
    let rule = NodeRule { text: "/\\w{12}/".to_owned(), exclude: false, labels: false, pattern };
    let verdict = NodeListRules(vec![rule]).compile().check(&"a".repeat(12), &[]);
    assert!(verdict.is_ok(), "{verdict:?}");
}

#[test]
fn reasons_name_rule_hostname_and_label() {
    let no =
        |rules: &[&str], hostname, labels: &[&str]| check(rules, hostname, labels).expect_err("a refusal");
    let yes = |rules: &[&str], hostname, labels: &[&str]| check(rules, hostname, labels).expect("available");
    assert_eq!(no(&["import-*"], "db1", &[]), r#"hostname "db1" matches no include rule of ["import-*"]"#);
    assert_eq!(no(&["import-*", "-import-03"], "import-03", &[]), r#"excluded by rule "-import-03""#);
    assert_eq!(no(&["-$gpu*"], "h", &["a", "gpu2"]), r#"excluded by rule "-$gpu*" (label "gpu2")"#);
    assert_eq!(no(&["$gpu"], "h", &[]), r#"no label matches an include rule of ["$gpu"]"#);
    assert_eq!(no(&["$gpu"], "h", &["a"]), r#"none of the labels ["a"] matches an include rule of ["$gpu"]"#);
    assert_eq!(
        no(&["$gpu", "w*"], "h", &["a"]),
        r#"hostname "h" and none of the labels ["a"] matches an include rule of ["$gpu", "w*"]"#
    );
    assert_eq!(
        no(&["a*", "-db*"], "db1", &[]),
        r#"excluded by rule "-db*"; hostname "db1" matches no include rule of ["a*"]"#
    );
    assert_eq!(yes(&["-a"], "h", &[]), "");
    assert_eq!(yes(&["+w*"], "web1", &[]), r#"hostname "web1" matches rule "+w*""#);
    assert_eq!(yes(&["$zone=*"], "h", &["zone=a"]), r#"label "zone=a" matches rule "$zone=*""#);
}

#[test]
fn globs_with_a_dot_match_the_full_hostname_and_expressions_always_do() {
    assert!(check(&["*.example.com"], "web3.example.com", &[]).is_ok());
    assert!(check(&["*.example.com"], "web3.other.com", &[]).is_err());
    assert!(check(&["*example*"], "web3.example.com", &[]).is_err(), "no dot: the short name");
    assert!(check(&["/^web3\\.example/"], "web3.example.com", &[]).is_ok());
    assert!(check(&["/a\\/b/"], "h", &[]).is_err());
    assert!(check(&["$/^a\\/b$/"], "h", &["a/b"]).is_ok(), "\\/ is a slash");
    assert!(check(&["/W E B # one/ix"], "web3", &[]).is_ok(), "flags");
}

#[test]
fn a_stored_expression_that_no_longer_compiles_refuses_with_that_reason() {
    let pattern = Pattern::Regex { source: "a(".to_owned(), flags: String::new() };
    for exclude in [false, true] {
        let rule = NodeRule { text: "/a(/".to_owned(), exclude, labels: false, pattern: pattern.clone() };
        let rules = NodeListRules(vec![rule, NodeRule::parse("*").expect("a rule")]);
        let reason = rules.compile().check("a", &[]).expect_err("refused");
        assert_eq!(reason, "rule \"/a(/\" is no longer understood: unclosed group");
    }
}

#[test]
fn globs_match_all_of_a_text_and_ignore_case() {
    #[rustfmt::skip]
    let table = [
        ("", "", true), ("", "a", false), ("a", "", false), ("*", "", true), ("*", "abc", true),
        ("?", "", false), ("?", "é", true), ("??", "é", false),
        ("a*c", "abc", true), ("a*c", "ac", true), ("a*c", "abcd", false),
        ("a*b*c", "aXbXbXc", true), ("*a*b", "xaxxb", true), ("*ab", "aab", true), ("*?", "", false),
        ("IMPORT-*", "import-01", true), ("straße*", "STRAßE 7", true), ("É", "é", true),
        ("a.c", "abc", false), ("[a]", "a", false), ("\\*", "\\x", true), ("**", "x", true),
    ];
    for (glob, text, matches) in table {
        assert_eq!(glob_matches(glob, text), matches, "{glob:?} on {text:?}");
    }
    let (glob, text) = ("a*".repeat(100) + "b", "a".repeat(400));
    assert!(!glob_matches(&glob, &text), "a hard case ends");
}

/// An expression of the regex crate that means the same as a glob.
fn glob_as_regex(glob: &str) -> Regex {
    let body: String = glob
        .chars()
        .map(|c| match c {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            c => regex::escape(&c.to_string()),
        })
        .collect();
    Regex::new(&format!("(?is)^{body}$")).expect("an expression")
}

fn rule() -> impl Strategy<Value = String> {
    ("[+-]?", "[$]?", "[abAB*?.]{1,4}|/[ab.]{1,3}/[ixsm]{0,2}")
        .prop_map(|(sign, labels, pattern)| format!("{sign}{labels}{pattern}"))
}

proptest! {
    #[test]
    fn a_glob_means_what_the_same_expression_means(glob in "[abAB*?.]{0,6}", text in "[abAB.]{0,8}") {
        prop_assert_eq!(glob_matches(&glob, &text), glob_as_regex(&glob).is_match(&text));
    }

    #[test]
    fn the_verdict_does_not_depend_on_the_order_of_rules(
        (written, shuffled) in proptest::collection::vec(rule(), 0..6)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        hostname in "[ab.]{1,4}",
        labels in proptest::collection::vec("[ab.]{1,3}", 0..3),
    ) {
        let verdict = |rules: &[String]| {
            NodeListRules::parse(rules).expect("well-formed").compile().check(&hostname, &labels).is_ok()
        };
        prop_assert_eq!(verdict(&written), verdict(&shuffled));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[+-]?[$]?/?[()\\[\\]{}*+?|\\\\a-c0-9,/^$]{0,16}|\\PC{0,16}", other in "\\PC{0,8}") {
        match NodeRule::parse(&text) {
            Ok(rule) => {
                prop_assert_eq!(&rule.text, &text);
                let _ = NodeListRules(vec![rule]).compile().check(&other, std::slice::from_ref(&other));
            }
            Err(error) => prop_assert!(error.position <= text.chars().count() + 1),
        }
    }
}
