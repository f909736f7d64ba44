//! Buckets.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use sheaf_model::{BucketName, Revision};
use sheaf_wire::bucket::{
    BucketHistory, BucketLogs, ListBuckets, MoveBucket, OnBucket, ReleaseRow, RollbackBucket,
};
use sheaf_wire::logs::LogsOf;

use super::done;
use crate::answer::{self, Answer};
use crate::ask::{Ask, Change, named};
use crate::live::{self, Sent};
use crate::serve::Shared;

/// `bucket list`
pub(super) async fn list(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_buckets(ListBuckets { page, filter }).await?))
}

/// `bucket status NAME`
pub(super) async fn status(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", BucketName::new)?;
    Ok(answer::view(&ask.client.bucket(&name).await?.status))
}

/// `bucket explain NAME`
pub(super) async fn explain(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", BucketName::new)?;
    Ok(answer::view(&ask.client.explain_bucket(&name).await?))
}

/// `bucket history NAME`: of each revision also what it changed.
pub(super) async fn history(ask: Ask) -> Answer {
    let ask = ask.only(&["name", "limit", "after"])?;
    let (bucket, page) = (ask.name("name", BucketName::new)?, ask.page()?);
    let got = ask.client.bucket_history(BucketHistory { bucket: bucket.clone(), page }).await?;
    // What the last one of a page changed is known by the one before it.
    let before = ask.client.release_before(&bucket, got.next.clone()).await?;
    let older = |at: usize| got.rows.get(at + 1).or(before.as_ref());
    let rows = got.rows.iter().enumerate().map(|(at, release)| ReleaseRow::new(release, older(at)));
    let rows: Vec<ReleaseRow> = rows.collect();
    Ok(answer::rows(&rows, &got.next))
}

/// `bucket logs NAME`, each line an event.
pub(super) async fn logs(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&["name", "node", "follow", "tail", "previous"])?;
    let of = LogsOf {
        bucket: ask.name("name", BucketName::new)?,
        follow: ask.flag("follow")?,
        since: None,
        tail: ask.read("tail")?,
        previous: ask.flag("previous")?,
    };
    let node = ask.text("node").map(str::to_owned);
    let opened = ask.client.bucket_logs(BucketLogs { of, node, after: Vec::new() }).await;
    live::answers(&shared, opened, |line| Sent::new("line", line.json()))
}

/// A bucket, and the revision it must be at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    revision: Option<u64>,
}

impl Change<Named> {
    fn on(&self) -> Result<OnBucket, crate::answer::Failed> {
        Ok(OnBucket {
            bucket: named("name", &self.ask.name, BucketName::new)?,
            base: self.ask.revision.map(Revision),
            request: self.request.clone(),
        })
    }
}

/// `bucket suspend`
pub(super) async fn suspend(change: Change<Named>) -> Answer {
    done("Bucket", &change.ask.name, "suspended", &change.client.suspend_bucket(change.on()?).await?)
}

/// `bucket resume`
pub(super) async fn resume(change: Change<Named>) -> Answer {
    done("Bucket", &change.ask.name, "resumed", &change.client.resume_bucket(change.on()?).await?)
}

/// `bucket restart`
pub(super) async fn restart(change: Change<Named>) -> Answer {
    done("Bucket", &change.ask.name, "restarted", &change.client.restart_bucket(change.on()?).await?)
}

/// `bucket purge`
pub(super) async fn purge(change: Change<Named>) -> Answer {
    done("Bucket", &change.ask.name, "purged", &change.client.purge_bucket(change.on()?).await?)
}

/// `bucket delete`
pub(super) async fn delete(change: Change<Named>) -> Answer {
    done("Bucket", &change.ask.name, "deleted", &change.client.delete_bucket(change.on()?).await?)
}

/// Where a bucket is to go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    name: String,
    /// A node; none: any other.
    to: Option<String>,
    revision: Option<u64>,
}

/// `bucket move`
pub(super) async fn relocate(change: Change<Move>) -> Answer {
    let Change { client, ask, request } = change;
    let moved = client.move_bucket(MoveBucket {
        bucket: named("name", &ask.name, BucketName::new)?,
        to: ask.to.filter(|to| !to.is_empty()),
        base: ask.revision.map(Revision),
        request,
    });
    done("Bucket", &ask.name, "moved", &moved.await?)
}

/// What a bucket is to be again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    name: String,
    /// What it was at this revision; none: the last that was different.
    to: Option<u64>,
    revision: Option<u64>,
}

/// `bucket rollback`
pub(super) async fn rollback(change: Change<Rollback>) -> Answer {
    let Change { client, ask, request } = change;
    let back = client.rollback_bucket(RollbackBucket {
        bucket: named("name", &ask.name, BucketName::new)?,
        to: ask.to.map(Revision),
        base: ask.revision.map(Revision),
        request,
    });
    done("Bucket", &ask.name, "rolled back", &back.await?)
}
