//! Objects of buckets. Nothing here looks at a value: it goes from the command to the store.

use std::sync::Arc;

use sheaf_model::{
    BucketName, Claim, OBJECT_VALUE_MAX, OBJECTS_BYTES_MAX, OBJECTS_MAX, ObjectKey, Phase, Revision,
};

use super::Transaction;
use crate::change::Change;
use crate::command::{DeleteObject, PutObject, Refusal, Reply};
use crate::objects::{Entry, Object, Objects};
use crate::state::Bucket;

impl Transaction<'_> {
    pub(super) fn put_object(&mut self, put: &PutObject) -> Result<Reply, Refusal> {
        let (bucket, key) = (&put.bucket, &put.key);
        self.claimed(bucket, put.claim)?;
        let objects = self.state.objects.get(bucket).map(Arc::as_ref);
        let former = objects.and_then(|objects| objects.get(key)).copied();
        if let Some(former) = former.filter(|former| put.token != 0 && former.token == put.token) {
            return Ok(Reply::Unchanged(former.version)); // The answer to the first time was lost.
        }
        check_version(bucket, key, put.base, former)?;
        check_quota(objects, put)?;
        let entry = Entry {
            version: self.revision,
            size: put.value.len() as u32,
            token: put.token,
            at: self.proposal.at,
        };
        self.put(Change::ObjectValue(bucket.clone(), key.clone(), put.value.clone()));
        self.put(Change::Object(Object { bucket: bucket.clone(), key: key.clone(), entry }));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn delete_object(&mut self, delete: &DeleteObject) -> Result<Reply, Refusal> {
        let (bucket, key) = (&delete.bucket, &delete.key);
        self.claimed(bucket, delete.claim)?;
        let Some(former) = self.state.objects.get(bucket).and_then(|objects| objects.get(key)).copied()
        else {
            return Ok(Reply::Unchanged(self.revision)); // Perhaps by the first of two tries.
        };
        check_version(bucket, key, delete.base, Some(former))?;
        self.put(Change::ObjectGone(bucket.clone(), key.clone()));
        Ok(Reply::Done(self.revision))
    }

    /// The bucket, if who speaks for it runs it now: under the epoch that is bound, or as one of many.
    pub(super) fn claimed(&self, name: &BucketName, claim: Claim) -> Result<Arc<Bucket>, Refusal> {
        let Some(bucket) = self.state.buckets.get(name) else {
            return Err(Refusal::NotFound("bucket".to_owned(), name.to_string()));
        };
        let node = self.state.node_name(claim.node);
        if bucket.current.spec.multi_node {
            if self.state.runs(name, claim.node) {
                return Ok(bucket.clone());
            }
            return Err(Refusal::Stale(format!("bucket {name} is not known to run on node {node}")));
        }
        let theirs = match claim.epoch {
            Some(epoch) => format!("epoch {epoch} of bucket {name} on node {node} is over"),
            None => format!("bucket {name} is no longer multi-node"),
        };
        match self.state.bindings.get(name) {
            Some(binding) if Some(binding.epoch) == claim.epoch && binding.node == claim.node => {
                Ok(bucket.clone())
            }
            Some(binding) => {
                let now = self.state.node_name(binding.node);
                Err(Refusal::Stale(format!(
                    "{theirs}: it is bound under epoch {} to node {now}",
                    binding.epoch
                )))
            }
            None => Err(Refusal::Stale(format!("{theirs}: it is bound to no node now"))),
        }
    }
}

fn check_version(
    bucket: &BucketName,
    key: &ObjectKey,
    base: Option<Revision>,
    former: Option<Entry>,
) -> Result<(), Refusal> {
    let Some(base) = base else { return Ok(()) };
    let conflict = |why: String| Err(Refusal::Conflict(format!("object {key} of bucket {bucket} {why}")));
    match former {
        Some(former) if former.version == base => Ok(()),
        Some(former) if base == Revision(0) => conflict(format!("exists, at version {}", former.version)),
        Some(former) => conflict(format!("is at version {}, not {base}", former.version)),
        None if base == Revision(0) => Ok(()),
        None => conflict(format!("does not exist; it was to be at version {base}")),
    }
}

fn check_quota(objects: Option<&Objects>, put: &PutObject) -> Result<(), Refusal> {
    let (bucket, key, size) = (&put.bucket, &put.key, put.value.len());
    let exhausted = |why: String| Err(Refusal::Exhausted(why));
    if size > OBJECT_VALUE_MAX {
        return exhausted(format!(
            "the value of object {key} of bucket {bucket} has {size} bytes; at most {OBJECT_VALUE_MAX} are kept"
        ));
    }
    let none = Objects::default();
    let objects = objects.unwrap_or(&none);
    let bytes = objects.bytes_with(key, size);
    if bytes > OBJECTS_BYTES_MAX {
        return exhausted(format!(
            "with object {key} the objects of bucket {bucket} would have {bytes} bytes; at most {OBJECTS_BYTES_MAX} are kept"
        ));
    }
    if objects.get(key).is_none() && objects.len() >= OBJECTS_MAX {
        return exhausted(format!("bucket {bucket} has {OBJECTS_MAX} objects already, which is the most"));
    }
    Ok(())
}

impl crate::State {
    /// Whether an instance of the bucket that is not over is recorded on the node.
    pub fn runs(&self, bucket: &BucketName, node: sheaf_model::NodeId) -> bool {
        let instance = self.instances.get(bucket).and_then(|nodes| nodes.get(&node));
        instance.is_some_and(|instance| !matches!(instance.phase, Phase::Stopped | Phase::Failed))
    }
}

#[cfg(test)]
mod tests;
