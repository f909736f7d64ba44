use sheaf_model::{
    Claim, Epoch, Json, KeyId, NodeId, NodeStatus, ObjectValue, SEAL_TAG, SECRET_MAX, Sealed, SecretName,
    Template, TemplateSet,
};

use crate::Change;
use crate::command::{Command, PutSecret, Reply};
use crate::testing::World;

fn name(text: &str) -> SecretName {
    SecretName::new(text).expect("a name")
}

fn sealed(bytes: usize) -> Sealed {
    let ciphertext = ObjectValue::from(vec![7; bytes].as_slice());
    Sealed { key: KeyId([1; 8]), nonce: [2; 12], ciphertext }
}

fn set(world: &mut World, secret: &str) -> Reply {
    world.propose(Command::PutSecret(PutSecret { name: name(secret), sealed: sealed(SEAL_TAG + 3) }))
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Node 1 with `/a` bound to it, of a module that names `listed` and what the bucket's config says.
fn bound() -> (World, Claim) {
    let mut world = World::with_nodes(2);
    world.apply_module("m", "1", |module| {
        let entry = |text| Template::parse(text, TemplateSet::SecretNames).expect("a template");
        module.secrets = vec![entry("listed"), entry("${bucket.config.token}")];
    });
    let applied = world.apply_bucket("/a", |put| {
        put.spec.module = sheaf_model::ModuleRef::parse("m@1").expect("a module");
        put.spec.config = Json::new(&serde_json::json!({"token": "of-the-bucket"}));
    });
    let bind = world.bind_command("/a", 1, applied.revision);
    world.propose(Command::Bind(bind));
    let claim = Claim { node: NodeId(1), epoch: Some(world.binding("/a").epoch) };
    (world, claim)
}

#[test]
fn a_secret_is_set_and_set_again_and_history_tells_it_without_a_value() {
    let (mut world, _) = bound();
    assert!(matches!(set(&mut world, "listed"), Reply::Done(_)));
    assert!(matches!(set(&mut world, "listed"), Reply::Done(_)));
    let events: Vec<_> = (world.changes.iter())
        .filter_map(|change| match change {
            Change::Event(event) if event.kind == "secret.set" => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!(events.len(), 2);
    assert_eq!((&*events[0].subject, &*events[0].before, &*events[0].after), ("listed", "", "set"));
    assert_eq!((&*events[1].before, &*events[1].after), ("set", "set"));
    assert!(events.iter().all(|event| event.message == "with key 0101010101010101"), "{events:?}");
    let huge = PutSecret { name: name("x"), sealed: sealed(SEAL_TAG + SECRET_MAX + 1) };
    let error = refusal(world.propose(Command::PutSecret(huge)));
    assert_eq!(error, "secret x: the value has 65537 bytes; at most 65536 are kept");
}

#[test]
fn only_who_runs_the_bucket_reads_what_its_module_names() {
    let (mut world, claim) = bound();
    let bucket = world.name("/a");
    let ask = |world: &World, claim, secret| world.state.secret_for(&bucket, claim, &name(secret));
    let error = ask(&world, claim, "listed").expect_err("not set").to_string();
    assert_eq!(error, "there is no secret listed; set it with `sheaf secret set listed`");
    for secret in ["listed", "of-the-bucket", "other"] {
        set(&mut world, secret);
    }
    for secret in ["listed", "of-the-bucket"] {
        assert_eq!(ask(&world, claim, secret).expect("named and set").name, name(secret));
    }
    let error = ask(&world, claim, "other").expect_err("not named").to_string();
    assert_eq!(
        error,
        "name: secret other is none that module m@1 names for bucket /a (it names listed, of-the-bucket); list it under \
         secrets in the module's document"
    );
    for wrong in [
        Claim { node: NodeId(2), ..claim },
        Claim { epoch: claim.epoch.map(|epoch| Epoch(epoch.0 - 1)), ..claim },
        Claim { epoch: None, ..claim },
    ] {
        assert!(ask(&world, wrong, "listed").expect_err("stale").to_string().starts_with("stale: "));
    }
}

#[test]
fn one_of_many_reads_it_before_it_is_recorded_unless_its_node_is_gone() {
    let (mut world, _) = bound();
    world.apply_bucket("/many", |put| {
        put.spec.module = sheaf_model::ModuleRef::parse("m@1").expect("a module");
        put.spec.config = Json::new(&serde_json::json!({"token": "t"}));
        put.spec.multi_node = true;
    });
    set(&mut world, "t");
    let claim = Claim { node: NodeId(2), epoch: None };
    let ask = |world: &World| world.state.secret_for(&world.name("/many"), claim, &name("t"));
    assert!(ask(&world).is_ok());
    world.set_status(2, NodeStatus::Lost);
    assert!(ask(&world).expect_err("gone").to_string().contains("is not known to be alive"));
}

#[test]
fn one_that_is_named_is_not_deleted() {
    let (mut world, _) = bound();
    for secret in ["listed", "of-the-bucket", "free"] {
        set(&mut world, secret);
    }
    let mut delete = |secret: &str| world.propose(Command::DeleteSecret(name(secret)));
    assert!(matches!(delete("free"), Reply::Done(_)));
    let error = refusal(delete("free"));
    assert_eq!(error, "there is no secret free");
    let error = refusal(delete("of-the-bucket"));
    assert_eq!(
        error,
        "secret of-the-bucket is named by Bucket /a; delete these first, or apply them without it"
    );
    assert!(refusal(delete("listed")).contains("named by Bucket /a, Module m@1;"));
}
