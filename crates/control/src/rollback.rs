//! Back to what a bucket was: the release that is meant is looked up in history, and registered as a change.

use sheaf_engine::{Apply, Bucket, Command, Release, Rollback};
use sheaf_model::{BucketName, PutBucket, Revision};
use sheaf_wire::bucket::RollbackBucket;
use sheaf_wire::{ApiError, Caller, Done};

use crate::Control;
use crate::bucket::{HISTORY_BYTES, no_bucket};
use crate::event::read;

/// How many kept revisions an error names.
const NAMED: usize = 10;

impl Control {
    pub(crate) async fn roll_back(&self, caller: Caller, ask: RollbackBucket) -> Result<Done, ApiError> {
        caller.may_change(&ask.bucket)?;
        self.caught_up(&caller).await?;
        let bucket = self.see_rows(|sight| sight.state.buckets.get(&ask.bucket).cloned())?;
        let bucket = bucket.ok_or_else(|| no_bucket(&ask.bucket))?;
        let to = match ask.to {
            Some(revision) => self.kept(bucket.name(), revision).await?,
            None => self.former(&bucket).await?,
        };
        let module = &to.spec.module;
        if self.see_rows(|sight| sight.state.module(module).is_none())? {
            return Err(ApiError::Precondition(format!(
                "bucket {0} cannot go back to revision {1}: its module then, {module}, was deleted; register that version \
                 again, and push what belonged to it, or go back to another revision (sheaf bucket history {0})",
                ask.bucket, to.revision
            )));
        }
        let put = PutBucket {
            spec: (*to.spec).clone(),
            suspended: None,
            // What it is to go back from is what was looked at.
            base: Some(ask.base.unwrap_or(bucket.revision)),
            latest: false,
        };
        // A version that was deleted and registered again may have another schema, or other needs.
        let apply = Apply { modules: Vec::new(), buckets: vec![put.clone()] };
        self.check_schemas(&apply)?;
        let warnings = self.warnings_of(&apply);
        let command = Command::Rollback(Rollback { put, to: to.revision });
        let done = self.change(&caller, ask.request, command).await?;
        Ok(Done { warnings, ..done })
    }

    /// What a bucket was at a revision.
    async fn kept(&self, bucket: &BucketName, revision: Revision) -> Result<Release, ApiError> {
        let (member, name) = (self.member()?, bucket.clone());
        let (found, newest) = read(&member, move |reader| {
            let found = reader.release(&name, revision)?;
            let newest = match found {
                Some(_) => Vec::new(),
                None => reader.releases(&name, None, NAMED, HISTORY_BYTES)?.found,
            };
            Ok((found, newest))
        })
        .await?;
        found.ok_or_else(|| {
            let revisions: Vec<String> = newest.iter().map(|it| it.revision.to_string()).collect();
            ApiError::NotFound(format!(
                "bucket {bucket} was not changed at revision {revision}, or that is not kept any more; kept: {} (sheaf \
                 bucket history {bucket})",
                revisions.join(", ")
            ))
        })
    }

    /// What a bucket was the last time that it was something else.
    async fn former(&self, bucket: &Bucket) -> Result<Release, ApiError> {
        let now = bucket.newest();
        if bucket.current.spec != now.spec {
            return Ok(bucket.current.clone());
        }
        let (member, name, now) = (self.member()?, bucket.name().clone(), now.clone());
        let found =
            read(&member, move |reader| reader.release_unlike(&name, now.revision, &now.spec)).await?;
        found.ok_or_else(|| {
            let name = bucket.name();
            ApiError::Precondition(format!(
                "bucket {name} never was anything else, as far as history is kept"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use sheaf_engine::{DeleteModule, Reply};
    use sheaf_model::{
        Actor, BucketName, BucketSpec, Json, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Runtime,
    };
    use sheaf_wire::cluster;

    use super::*;
    use crate::propose::tests::{One, Still};

    fn module(version: &str, schema: Option<&Value>) -> ModuleSpec {
        let (name, version) = (ModuleName::new("m"), ModuleVersion::new(version));
        let (name, version) = (name.expect("a name"), version.expect("a version"));
        let config_schema = schema.map(Json::new);
        ModuleSpec { config_schema, ..ModuleSpec::new(name, version, Runtime::Exec) }
    }

    fn bucket(module: &str, config: &Value) -> PutBucket {
        let name = BucketName::new("/a").expect("a name");
        let mut spec = BucketSpec::new(name, ModuleRef::parse(module).expect("a version of a module"));
        spec.config = Json::new(config);
        PutBucket { spec, suspended: None, base: None, latest: false }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_it_was_is_judged_by_the_schema_that_its_version_has_now() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let who = || Caller::local("test");
        let apply = async |modules: Vec<ModuleSpec>, buckets: Vec<PutBucket>| {
            let ask = cluster::Apply { modules, buckets, ..cluster::Apply::default() };
            control.apply_documents(&who(), ask).await.expect("applied").revision
        };
        let back = async |to: Option<Revision>| {
            let bucket = BucketName::new("/a").expect("a name");
            control.roll_back(who(), RollbackBucket { bucket, to, base: None, request: None }).await
        };
        let first = apply(vec![module("1", None)], vec![bucket("m@1", &json!({}))]).await;
        let second = apply(vec![module("2", None)], vec![bucket("m@2", &json!({"port": 1}))]).await;
        let gone = module("1", None);
        let delete = Command::DeleteModule(DeleteModule { name: gone.name, version: gone.version });
        let reply = control.propose_as(Actor::from("test"), None, delete, None).await;
        assert!(matches!(reply, Ok(Reply::Done(_))), "{reply:?}");
        let another = module("1", Some(&json!({"type": "object", "required": ["port"]})));
        apply(vec![another], vec![bucket("m@2", &json!({"port": 2}))]).await;

        match back(Some(first)).await {
            Err(ApiError::Invalid(defects)) => {
                assert!(defects[0].problem.contains("\"port\" is a required property"), "{defects:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!back(Some(second)).await.expect("its config is good").unchanged);
    }
}
