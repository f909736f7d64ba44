//! Back to what a bucket was: the release that is meant is looked up in history, and registered as a change.

use sheaf_engine::{Bucket, Command, Release, Rollback};
use sheaf_model::{PutBucket, Revision};
use sheaf_wire::bucket::RollbackBucket;
use sheaf_wire::{ApiError, Caller, Done};

use crate::Control;
use crate::bucket::no_bucket;

/// How many kept revisions an error names.
const NAMED: usize = 10;

impl Control {
    pub(crate) async fn roll_back(&self, caller: Caller, ask: RollbackBucket) -> Result<Done, ApiError> {
        caller.may_change(&ask.bucket)?;
        self.caught_up(&caller).await?;
        let releases = self.releases(&ask.bucket).await?;
        let bucket = self.see_rows(|sight| sight.state.buckets.get(&ask.bucket).cloned())?;
        let bucket = bucket.ok_or_else(|| no_bucket(&ask.bucket))?;
        let to = meant(&bucket, &releases, ask.to)?;
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
}

/// The release that is meant, of those kept, newest first: the one named, or the last one that was different.
fn meant<'a>(
    bucket: &'a Bucket,
    kept: &'a [Release],
    named: Option<Revision>,
) -> Result<&'a Release, ApiError> {
    let name = bucket.name();
    let Some(named) = named else {
        let now = bucket.newest();
        let former =
            std::iter::once(&bucket.current).chain(kept.iter().filter(|it| it.revision < now.revision));
        return former.into_iter().find(|it| it.spec != now.spec).ok_or_else(|| {
            ApiError::Precondition(format!(
                "bucket {name} never was anything else, as far as history is kept"
            ))
        });
    };
    kept.iter().find(|release| release.revision == named).ok_or_else(|| {
        let revisions: Vec<String> = kept.iter().take(NAMED).map(|it| it.revision.to_string()).collect();
        ApiError::NotFound(format!(
            "bucket {name} was not changed at revision {named}, or that is not kept any more; kept: {} (sheaf bucket \
             history {name})",
            revisions.join(", ")
        ))
    })
}
