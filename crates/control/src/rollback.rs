//! Back to what a bucket was: the release that is meant is looked up in history, and registered as a change.

use sheaf_engine::{Bucket, Command, Release, Rollback};
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
        self.change(&caller, ask.request, Command::Rollback(Rollback { put, to: to.revision })).await
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
