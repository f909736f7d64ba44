//! `sheaf bucket list`

use clap::Args;
use sheaf_model::view::BucketRow;
use sheaf_model::{Timestamp, document};
use sheaf_wire::Client;
use sheaf_wire::bucket::ListBuckets;

use super::bucket_name;
use crate::command::page::{self, Printed};
use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed};
use crate::text::labels;
use crate::when;

/// What to do when there is nothing to list.
const EMPTY: &str = "no buckets yet; register one: sheaf apply -f deploy/examples/flume.yaml";
const NONE_SUCH: &str = "no bucket is like that; `sheaf bucket list` shows all";

/// `sheaf bucket list`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf bucket list -l team=web
  sheaf bucket list --where state=unplaced -o wide
  sheaf bucket list --all -o yaml > buckets.yaml")]
pub struct List {
    #[command(flatten)]
    labels: Labels,
    /// Only those: name (with * and ?), state, type, module, owner, node, suspended, multi_node, label.KEY
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

impl List {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let filter = page::labelled(&self.labels, &self.filter)?;
        let fetch = async |page, filter| client.list_buckets(ListBuckets { page, filter }).await;
        let document = |row: BucketRow| async move {
            let name = bucket_name(&row.name).map_err(Failure::Refused)?;
            let got = page::there(client.bucket(&name).await)?;
            let text = got.map(|got| document::bucket_yaml(&got.spec, got.status.suspended, None));
            Ok::<_, Failure>(text.map(Printed::whole))
        };
        page::documented(&filter, &self.page, format, out, (EMPTY, NONE_SUCH), fetch, document).await
    }
}

impl Listed for BucketRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("MODULE"),
        Column::new("RUNNING").number(),
        Column::new("AFFINITY"),
        Column::new("SINCE").number(),
        Column::new("EPOCH").wide(),
        Column::new("TYPE").wide(),
        Column::new("NODES").wide(),
        Column::new("REVISION").wide().number(),
        Column::new("OWNER").wide(),
        Column::new("LABELS").wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.state.as_str().to_owned(),
            self.module.clone(),
            format!("{}/{}", self.running, self.desired),
            affinity(&self.node_affinity),
            when::age_of(now, self.affinity_since.as_deref()),
            self.affinity_epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            self.kind.clone(),
            nodes(self.multi_node).to_owned(),
            self.revision.to_string(),
            self.owner.clone().unwrap_or_default(),
            labels(&self.labels),
        ]
    }
}

/// On how many nodes a bucket runs, in a word.
pub(super) const fn nodes(multi_node: bool) -> &'static str {
    if multi_node { "multi-node" } else { "single-node" }
}

/// The first hostnames, and how many more there are.
fn affinity(hostnames: &[String]) -> String {
    match hostnames {
        [] => "-".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded;
    use crate::table::Listing;

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        Listing::whole(&mut out, format, &example::rows()).expect("it prints");
        recording.data()
    }

    #[test]
    fn buckets_are_a_table() {
        insta::assert_snapshot!(printed(Format::Table), @r"
        NAME       STATE     MODULE        RUNNING  AFFINITY              SINCE
        /crawl     unplaced  flume@1.11.0      0/1  -                         -
        /graph     running   flume@1.11.0      1/1  web-01                   3h
        /logs/web  running   flume@1.11.0      2/2  import-01, import-02      -
        ");
        insta::assert_snapshot!(printed(Format::Wide), @r"
        NAME       STATE     MODULE        RUNNING  AFFINITY              SINCE  EPOCH  TYPE     NODES        REVISION  OWNER     LABELS
        /crawl     unplaced  flume@1.11.0      0/1  -                         -  -      harvest  single-node         7
        /graph     running   flume@1.11.0      1/1  web-01                   3h  42     harvest  single-node         7  data-eng  team=web
        /logs/web  running   flume@1.11.0      2/2  import-01, import-02      -  -      harvest  multi-node          7  data-eng  team=web
        ");
    }

    #[test]
    fn a_row_has_the_promised_fields() {
        let rows: serde_json::Value = serde_json::from_str(&printed(Format::Json)).expect("JSON");
        let fields: Vec<&str> = rows[0].as_object().expect("an object").keys().map(String::as_str).collect();
        let promised = [
            "name",
            "state",
            "type",
            "module",
            "multi_node",
            "suspended",
            "node_affinity",
            "affinity_epoch",
            "affinity_since",
            "desired",
            "running",
            "revision",
            "owner",
            "labels",
        ];
        assert_eq!(fields, promised);
        assert_eq!(rows[0]["state"], "unplaced");
    }
}
