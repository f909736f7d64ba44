//! Buckets: `sheaf.v1.BucketService`.

use sheaf_engine::status::Sight;
use sheaf_engine::{Bucket, Command, OnBucket as Verb, steward};
use sheaf_model::view::{BucketRow, Explanation};
use sheaf_model::{BucketName, NodeId, Revision};
use sheaf_wire::bucket::{
    ApplyBucket, BucketApi, BucketHistory, BucketLogs, BucketRelease, BucketStep, GotBucket, ListBuckets,
    MoveBucket, OnBucket, Plan, PlanBucket, RollbackBucket, TestBucket, TestStep, WatchBuckets,
};
use sheaf_wire::cluster::Apply;
use sheaf_wire::logs::LogLine;
use sheaf_wire::{Answers, ApiError, Applied, Caller, Done, Page, async_trait};

use crate::Control;
use crate::event::read;
use crate::filter::{label, page, selects, size};
use crate::node::find;
use crate::service::AT_ONCE;

/// What the releases of one page may have together, as the database has them. In an answer a list of numbers, the worst
/// there is, has six times as much, and that still fits into a message.
pub(crate) const HISTORY_BYTES: usize = 2 << 20;
/// What the rows of one page may have together, beyond the last one's: each names all the nodes that run the bucket.
const PAGE_BYTES: usize = 4 << 20;

#[async_trait]
impl BucketApi for Control {
    async fn apply(&self, caller: Caller, ask: ApplyBucket) -> Result<Applied, ApiError> {
        let ApplyBucket { put, request, validate_only } = ask;
        let apply = Apply { buckets: vec![put], request, validate_only, ..Apply::default() };
        self.apply_documents(&caller, apply).await
    }

    async fn plan(&self, caller: Caller, ask: PlanBucket) -> Result<Plan, ApiError> {
        self.caught_up(&caller).await?;
        self.plan_bucket(&caller, ask).await
    }

    async fn get(&self, caller: Caller, ask: BucketName) -> Result<GotBucket, ApiError> {
        self.caught_up(&caller).await?;
        self.see_bucket(&ask, |sight, bucket| GotBucket {
            spec: (*bucket.newest().spec).clone(),
            status: sight.bucket_status(bucket),
        })
    }

    async fn list(&self, caller: Caller, ask: ListBuckets) -> Result<Page<BucketRow>, ApiError> {
        self.caught_up(&caller).await?;
        let (mut found, mut token) = (Found::default(), ask.page.token.clone());
        while let Some(next) = self.see(|sight| select(&sight, &ask, &token, &mut found))? {
            token = next;
            // Whoever waits for the lock or for this thread comes first.
            tokio::task::yield_now().await;
        }
        let Found { rows, bytes } = found;
        let mut page = page(&ask.page, rows.into_iter(), |row| row.name.clone());
        if bytes > PAGE_BYTES && page.next.is_empty() {
            page.next = page.rows.last().map(|row| row.name.clone()).unwrap_or_default();
        }
        Ok(page)
    }

    async fn explain(&self, caller: Caller, ask: BucketName) -> Result<Explanation, ApiError> {
        self.caught_up(&caller).await?;
        self.see_bucket(&ask, |sight, bucket| sight.explain(bucket))
    }

    async fn watch(&self, caller: Caller, ask: WatchBuckets) -> Result<Answers<BucketStep>, ApiError> {
        self.caught_up(&caller).await?;
        self.watch_buckets(ask)
    }

    async fn logs(&self, caller: Caller, ask: BucketLogs) -> Result<Answers<LogLine>, ApiError> {
        self.caught_up(&caller).await?;
        self.gather_logs(caller, ask).await
    }

    async fn move_bucket(&self, caller: Caller, ask: MoveBucket) -> Result<Done, ApiError> {
        caller.may_change(&ask.bucket)?;
        let to = match &ask.to {
            Some(name) => Some(self.see(|sight| takes(&sight, &ask.bucket, name))??),
            None => {
                self.see(|sight| can_leave(&sight, &ask.bucket))??;
                None
            }
        };
        let command = Command::Move(sheaf_engine::MoveBucket { bucket: ask.bucket, to, base: ask.base });
        self.change(&caller, ask.request, command).await
    }

    async fn rollback(&self, caller: Caller, ask: RollbackBucket) -> Result<Done, ApiError> {
        self.roll_back(caller, ask).await
    }

    async fn suspend(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.verb(&caller, ask, Command::Suspend).await
    }

    async fn resume(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.verb(&caller, ask, Command::Resume).await
    }

    async fn restart(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.verb(&caller, ask, Command::Restart).await
    }

    async fn purge(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.verb(&caller, ask, Command::Purge).await
    }

    async fn delete(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.verb(&caller, ask, Command::DeleteBucket).await
    }

    async fn test(&self, caller: Caller, ask: TestBucket) -> Result<Answers<TestStep>, ApiError> {
        self.test_bucket(caller, ask).await
    }

    async fn history(&self, caller: Caller, ask: BucketHistory) -> Result<Page<BucketRelease>, ApiError> {
        self.caught_up(&caller).await?;
        let before = match ask.page.token.as_str() {
            "" => None,
            token => Some(Revision(token.parse().map_err(|_| {
                ApiError::invalid("page_token", format!("{token:?} is no token of this list"), "as answered")
            })?)),
        };
        let (member, bucket, size) = (self.member()?, ask.bucket.clone(), size(&ask.page));
        let (page, known) = read(&member, move |reader| {
            let page = reader.releases(&bucket, before, size, HISTORY_BYTES)?;
            let known = !page.found.is_empty() || !reader.releases(&bucket, None, 1, 0)?.found.is_empty();
            Ok((page, known))
        })
        .await?;
        if !known {
            return Err(no_bucket(&ask.bucket));
        }
        let last = page.found.last().filter(|_| page.more).map(|release| release.revision.to_string());
        let rows = page.found.into_iter().map(|release| BucketRelease {
            revision: release.revision,
            at: release.at,
            actor: release.actor,
            spec: (*release.spec).clone(),
        });
        Ok(Page { rows: rows.collect(), next: last.unwrap_or_default() })
    }
}

impl Control {
    async fn verb(
        &self,
        caller: &Caller,
        ask: OnBucket,
        command: fn(Verb) -> Command,
    ) -> Result<Done, ApiError> {
        caller.may_change(&ask.bucket)?;
        let verb = Verb { bucket: ask.bucket, base: ask.base };
        self.change(caller, ask.request, command(verb)).await
    }

    fn see_bucket<T>(
        &self,
        name: &BucketName,
        view: impl FnOnce(Sight<'_>, &Bucket) -> T,
    ) -> Result<T, ApiError> {
        self.see(|sight| sight.state.buckets.get(name).map(|bucket| view(sight, bucket)))?
            .ok_or_else(|| no_bucket(name))
    }
}

/// Refuses to move a bucket that would only be stopped, and started where it is. Whether it can be moved at all is seen
/// when that is applied.
fn can_leave(sight: &Sight<'_>, bucket: &BucketName) -> Result<(), ApiError> {
    let Some(sessions) = sight.sessions else { return Err(ApiError::unavailable("this node does not lead")) };
    let binding = sight.state.bindings.get(bucket).filter(|binding| binding.leaving.is_none());
    let known = sight.state.buckets.get(bucket).filter(|known| !known.current.spec.multi_node);
    let Some((binding, known)) = binding.zip(known) else { return Ok(()) };
    match steward::elsewhere(sight.state, sessions, known, binding.node) {
        Some(_) => Ok(()),
        None => Err(ApiError::Precondition(format!(
            "bucket {bucket} can go nowhere: no node but {} is available for it; sheaf bucket explain {bucket} says why",
            sight.state.node_name(binding.node)
        ))),
    }
}

/// The node named, if as far as the leader knows it is available for the bucket.
fn takes(sight: &Sight<'_>, bucket: &BucketName, name: &str) -> Result<NodeId, ApiError> {
    let node = find(sight.state, name)?;
    let Some(known) = sight.state.buckets.get(bucket) else { return Err(no_bucket(bucket)) };
    let to = &node.facts.name;
    let refused =
        |why: String| Err(ApiError::Precondition(format!("bucket {bucket} cannot go to node {to}: {why}")));
    let Some(sessions) = sight.sessions else { return Err(ApiError::unavailable("this node does not lead")) };
    if !node.status.is_alive() || !sessions.is_answering(node.id) {
        return refused(format!("it is {} and does not answer now", node.status.as_str()));
    }
    match sessions.verdict(bucket, known.current.revision, node.id) {
        None => refused("it has not answered yet".to_owned()),
        Some(verdict) => match verdict.refusal() {
            Some((gate, outcome)) => refused(format!("{}: {}", gate.as_str(), outcome.reason)),
            None => match sight.obstacle(known, node) {
                obstacle if obstacle.is_empty() => Ok(node.id),
                obstacle => refused(obstacle),
            },
        },
    }
}

pub(crate) fn no_bucket(name: &BucketName) -> ApiError {
    ApiError::NotFound(format!("there is no bucket {name}"))
}

/// Buckets whose names come after `token`, by name.
fn after<'a>(sight: &Sight<'a>, token: &str) -> impl Iterator<Item = &'a Bucket> + use<'a> {
    use std::ops::Bound;
    let from = if token.is_empty() { Bound::Unbounded } else { Bound::Excluded(token) };
    sight.state.buckets.range::<str, _>((from, Bound::Unbounded)).map(|(_, bucket)| &**bucket)
}

/// Rows of a page, and about what they have together.
#[derive(Default)]
struct Found {
    rows: Vec<BucketRow>,
    bytes: usize,
}

/// Bytes of what may be long in a row; a message has two more for each text.
fn weight(row: &BucketRow) -> usize {
    let labels = row.labels.iter().flat_map(|(key, value)| [key, value]);
    let texts = row.node_affinity.iter().chain(&row.owner).chain(labels);
    texts.map(|text| text.len() + 2).sum()
}

/// Adds the rows selected of some buckets after `token`, until they are more than a page. Returns after which bucket to go
/// on; none: there is nothing to go on with.
fn select(sight: &Sight<'_>, ask: &ListBuckets, token: &str, found: &mut Found) -> Option<String> {
    let (mut looked, mut last) = (0, None);
    for bucket in after(sight, token).take(AT_ONCE) {
        (looked, last) = (looked + 1, Some(bucket.name()));
        let row = sight.bucket_row(bucket);
        let is_selected = selects(&ask.filter, &|key| match key {
            "node" => nodes_of(sight, bucket),
            key => values(&row, key),
        });
        if is_selected {
            found.bytes += weight(&row);
            found.rows.push(row);
        }
        if found.rows.len() > size(&ask.page) || found.bytes > PAGE_BYTES {
            return None;
        }
    }
    last.filter(|_| looked == AT_ONCE).map(ToString::to_string)
}

/// The nodes a bucket is bound to, by name and by hostname.
fn nodes_of(sight: &Sight<'_>, bucket: &Bucket) -> Vec<String> {
    let nodes = sight.affinity_of(bucket).into_iter();
    nodes.flat_map(|node| [sight.state.node_name(node), sight.hostname(node)]).collect()
}

/// What a row says under a filter's key.
fn values(row: &BucketRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "state" => vec![row.state.as_str().to_owned()],
        "type" => vec![row.kind.clone()],
        "module" => {
            let name = row.module.split('@').next().unwrap_or_default();
            vec![name.to_owned(), row.module.clone()]
        }
        "multi_node" => vec![row.multi_node.to_string()],
        "suspended" => vec![row.suspended.to_string()],
        "owner" => row.owner.clone().into_iter().collect(),
        key => label(&row.labels, key),
    }
}
