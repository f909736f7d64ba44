//! Registers that are objects: what a module of a multi-node bucket would keep, written here as by its instances on any node.

use std::collections::BTreeMap;

use sheaf_model::{BucketName, Claim, NodeId, ObjectKey, ObjectValue, Revision};
use sheaf_wire::instance::{GetObject, PutObject};
use sheaf_wire::{ApiError, Client};

use super::{Answers, Caller, Seen, VALUES, passes, surely_not};
use crate::linear::{Answer, Ask, Operation};
use crate::nemesis::KEEPS_OBJECTS;

/// Objects that are written and read.
const OBJECTS: usize = 4;

pub(super) fn keys() -> impl Iterator<Item = String> {
    (0..OBJECTS).map(|number| format!("register-{number}"))
}

/// Makes them all.
pub(super) async fn make(client: &Client, node: NodeId) -> BTreeMap<String, Seen> {
    let mut made = BTreeMap::new();
    for key in keys() {
        let revision =
            write(client, &key, 0, None, node).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        made.insert(key, Seen { revision, value: 0 });
    }
    made
}

/// What an object is by the newest state there is, whoever is asked.
pub(super) async fn read(client: &Client, key: &str) -> Result<Seen, ApiError> {
    let got = client.get_object(GetObject { bucket: bucket(), key: object(key) }).await?;
    let text = String::from_utf8_lossy(got.value.as_bytes());
    let value = text.parse().map_err(|_| ApiError::Internal(format!("object {key} is {text:?}")))?;
    Ok(Seen { revision: got.head.version.0, value })
}

/// Writes an object in the name of the instance on a node; the object's version.
async fn write(
    client: &Client,
    key: &str,
    value: u64,
    base: Option<u64>,
    node: NodeId,
) -> Result<u64, ApiError> {
    let put = PutObject {
        bucket: bucket(),
        key: object(key),
        value: ObjectValue::from(value.to_string().as_bytes()),
        base: base.map(Revision),
        claim: Claim { node, epoch: None },
        token: value,
    };
    client.put_object(put).await.map(|done| done.revision.0)
}

fn bucket() -> BucketName {
    BucketName::new(KEEPS_OBJECTS).expect("the bucket's name is one")
}

fn object(key: &str) -> ObjectKey {
    ObjectKey::new(key).expect("a register's key is one")
}

impl Caller {
    /// Reads as often as it writes. What it is not answered to a read tells nothing.
    pub(super) async fn change_objects(
        mut self,
        mut known: BTreeMap<String, Seen>,
        nodes: Vec<NodeId>,
    ) -> Answers {
        let keys: Vec<String> = known.keys().cloned().collect();
        let mut answers = Answers::default();
        while self.goes_on(20, 120).await {
            let key = keys[self.random.index(keys.len())].clone();
            let client = self.client();
            let called = self.now();
            if self.random.chance(500) {
                match read(&client, &key).await {
                    Ok(seen) => {
                        self.note(&mut answers, &key, (Ask::Read, Answer::Value(seen.value)), called);
                        known.insert(key, seen);
                    }
                    Err(error) if passes(&error) => {}
                    Err(error) => answers.wrong.push(format!("object {key}: {error:?}")),
                }
                continue;
            }
            self.asked += 1;
            let (new, seen) = (self.number * VALUES + self.asked, known[&key]);
            let (ask, base) = match self.random.chance(500) {
                true => (Ask::Write(new), None),
                false => (Ask::Swap { old: seen.value, new }, Some(seen.revision)),
            };
            let node = nodes[self.random.index(nodes.len())];
            let done = write(&client, &key, new, base, node).await;
            let answer = match &done {
                Ok(_) => Answer::Done,
                Err(ApiError::Conflict(_)) => Answer::Refused,
                // Nor may one write in whose name it is asked when nothing runs there.
                Err(error) if surely_not(error) || matches!(error, ApiError::Precondition(_)) => continue,
                Err(error) => {
                    if !passes(error) {
                        answers.wrong.push(format!("object {key}: {error:?}"));
                    }
                    Answer::None
                }
            };
            self.note(&mut answers, &key, (ask, answer), called);
            if let Ok(revision) = done {
                known.insert(key, Seen { revision, value: new });
            }
        }
        answers
    }

    /// Remembers what was just answered.
    fn note(&self, answers: &mut Answers, key: &str, (ask, answer): (Ask, Answer), called: u64) {
        let operation = Operation { ask, answer, called, returned: self.now() };
        answers.objects.entry(key.to_owned()).or_default().push(operation);
    }
}
