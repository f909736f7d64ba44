//! Where somebody is: tabs, what was opened on top of them, and what each of it must know.

use sheaf_model::{BucketName, JobName, Selector, SubtaskState};
use sheaf_wire::event::EventFilter;
use sheaf_wire::{Filter, PAGE_MAX, Term};

use super::ask::{Ask, Part, SubtasksOf};
use crate::command::node::numbered;

/// The views that are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Overview,
    Buckets,
    Nodes,
    Jobs,
    Events,
}

impl Tab {
    pub(super) const ALL: [Self; 5] = [Self::Overview, Self::Buckets, Self::Nodes, Self::Jobs, Self::Events];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Buckets => "Buckets",
            Self::Nodes => "Nodes",
            Self::Jobs => "Jobs",
            Self::Events => "Events",
        }
    }
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tab(Tab),
    Bucket(BucketName),
    Node {
        /// What the cluster is asked for: its number where it is known, for a name may be that of a lost node, too.
        id: String,
        name: String,
    },
    Job(JobName),
    Subtask(JobName, u32),
}

impl Place {
    /// The node of this number; 0: it is not known, and whichever node has the name now is meant.
    pub(super) fn node(name: &str, number: u64) -> Self {
        let id = if number == 0 { name.to_owned() } else { numbered(number) };
        Self::Node { id, name: name.to_owned() }
    }

    /// Its pages; one of them is shown.
    pub(super) const fn pages(&self) -> &'static [Page] {
        match self {
            Self::Tab(Tab::Overview) => &[Page::Concerns],
            Self::Tab(Tab::Buckets) => &[Page::Buckets],
            Self::Tab(Tab::Nodes) => &[Page::Nodes],
            Self::Tab(Tab::Jobs) => &[Page::Jobs],
            Self::Tab(Tab::Events) => &[Page::Events],
            Self::Bucket(_) => &[Page::Instances, Page::Gates, Page::History, Page::Logs, Page::Events],
            Self::Node { .. } => &[Page::Runs, Page::Facts, Page::Events],
            Self::Job(_) => &[Page::Failures, Page::Subtasks, Page::Why, Page::Events],
            Self::Subtask(..) => &[Page::Attempts, Page::Output],
        }
    }

    /// In the line of the way that led here.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Tab(tab) => tab.title().to_owned(),
            Self::Bucket(name) => name.as_str().to_owned(),
            Self::Node { name, .. } => name.clone(),
            Self::Job(name) => name.as_str().to_owned(),
            Self::Subtask(_, number) => format!("subtask {number}"),
        }
    }
}

/// A page of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Concerns,
    Buckets,
    Nodes,
    Jobs,
    Events,
    Instances,
    Gates,
    History,
    Logs,
    Runs,
    Facts,
    Failures,
    Subtasks,
    Why,
    Attempts,
    Output,
}

impl Page {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Concerns => "concerns",
            Self::Buckets => "buckets",
            Self::Nodes => "nodes",
            Self::Jobs => "jobs",
            Self::Events => "events",
            Self::Instances => "instances",
            Self::Gates => "gates",
            Self::History => "history",
            Self::Logs => "logs",
            Self::Runs => "runs",
            Self::Facts => "facts",
            Self::Failures => "status",
            Self::Subtasks => "subtasks",
            Self::Why => "why",
            Self::Attempts => "attempts",
            Self::Output => "output",
        }
    }

    /// Whether the cluster sends it in parts.
    pub(super) const fn is_paged(self) -> bool {
        matches!(self, Self::Buckets | Self::Nodes | Self::Jobs | Self::Subtasks)
    }

    /// Lines below the table that say more of the chosen row.
    pub(super) const fn detail(self) -> u16 {
        match self {
            Self::Buckets | Self::Nodes | Self::Jobs | Self::Logs | Self::Output | Self::Facts => 0,
            Self::Gates | Self::Why => 6,
            Self::Concerns | Self::Instances | Self::History | Self::Runs => 3,
            Self::Events | Self::Failures | Self::Subtasks | Self::Attempts => 4,
        }
    }

    /// What a filter may say here.
    pub(super) const fn filter_help(self) -> &'static str {
        match self {
            Self::Buckets => {
                "part of a name, or state=unplaced owner=eo node=n1 label.team=web type!=harvest"
            }
            Self::Nodes => "part of a name, or status=lost label=zone=a voter=true",
            Self::Jobs => "part of a name, or state=failed module=ndvi owner=eo",
            Self::Events => "any text, or subject=/logs/web kind=bucket node=n1",
            Self::Subtasks => "failed, 7, 100-199, or SQL: node = 'n1' AND exit_code = 2",
            _ => "any text",
        }
    }
}

/// How a page is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Look {
    /// The chosen row, by its key; else by its place.
    pub(super) key: Option<String>,
    pub(super) index: usize,
    pub(super) filter: String,
    pub(super) sort: Option<Sort>,
    /// Where the pages of a list begin that were passed, the shown one last; the first begins nowhere.
    pub(super) tokens: Vec<String>,
    /// The number of the last line of a log that is shown, counted from its begin; none: whatever comes.
    pub(super) held: Option<u64>,
}

impl Look {
    /// Back to the first row of the first page.
    pub(super) fn rewind(&mut self) {
        self.tokens.clear();
        (self.key, self.index) = (None, 0);
    }
}

/// In which order rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: usize,
    /// The largest first.
    pub(super) down: bool,
}

/// A place, and how its pages are looked at.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Screen {
    pub(super) place: Place,
    pub(super) shown: usize,
    pub(super) looks: Vec<Look>,
    /// The attempt whose output is shown; 0: the last one.
    pub(super) attempt: u32,
}

impl Screen {
    pub(super) fn new(place: Place) -> Self {
        let looks = vec![Look::default(); place.pages().len()];
        Self { place, shown: 0, looks, attempt: 0 }
    }

    pub(super) fn page(&self) -> Page {
        self.place.pages()[self.shown]
    }

    pub(super) fn look(&self) -> &Look {
        &self.looks[self.shown]
    }

    pub(super) fn look_mut(&mut self) -> &mut Look {
        &mut self.looks[self.shown]
    }

    /// What the shown page is made of; `rows` fit on the screen.
    pub(super) fn ask(&self, rows: u32) -> Ask {
        let look = self.look();
        match (&self.place, self.page()) {
            (_, Page::Buckets) => Ask::Buckets(part(look, rows)),
            (_, Page::Nodes) => Ask::Nodes(part(look, rows)),
            (_, Page::Jobs) => Ask::Jobs(part(look, rows)),
            (place, Page::Events) => Ask::Events(events(place, &look.filter).0),
            (Place::Bucket(name), page) => match page {
                Page::Gates => Ask::Explain(name.clone()),
                Page::History => Ask::History(name.clone()),
                Page::Logs => Ask::BucketLogs(name.clone()),
                _ => Ask::Bucket(name.clone()),
            },
            (Place::Node { id, .. }, _) => Ask::Node(id.clone()),
            (Place::Job(name), page) => match page {
                Page::Subtasks => Ask::Subtasks(subtasks(name, look, rows)),
                Page::Why => Ask::Why(name.clone(), None),
                _ => Ask::Job(name.clone()),
            },
            (Place::Subtask(name, number), Page::Output) => Ask::Output(name.clone(), *number, self.attempt),
            (Place::Subtask(name, number), _) => Ask::Attempts(name.clone(), *number),
            (Place::Tab(_), _) => Ask::Concerns,
        }
    }

    /// What its title and head say, whatever page is shown.
    pub(super) fn about(&self) -> Option<Ask> {
        match &self.place {
            Place::Tab(_) => None,
            Place::Bucket(name) => Some(Ask::Bucket(name.clone())),
            Place::Node { id, .. } => Some(Ask::Node(id.clone())),
            Place::Job(name) => Some(Ask::Job(name.clone())),
            Place::Subtask(name, number) => Some(Ask::Why(name.clone(), Some(*number))),
        }
    }
}

/// In the list's own order only what is on the screen is asked for; in another, as much as one answer may hold.
fn part(look: &Look, rows: u32) -> Part {
    let (size, token) = window(look, rows);
    Part { size, token, filter: filter(&look.filter) }
}

fn window(look: &Look, rows: u32) -> (u32, String) {
    match look.sort {
        Some(_) => (PAGE_MAX, String::new()),
        None => (rows.clamp(1, PAGE_MAX), look.tokens.last().cloned().unwrap_or_default()),
    }
}

/// Words with blanks or commas between: `KEY=VALUE`, `KEY!=VALUE`, and else a part of the name.
fn filter(text: &str) -> Filter {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let terms = words.map(|word| match word.split_once('=') {
        Some((key, value)) => {
            let (key, not) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
            Term { key: key.to_owned(), not, value: value.to_owned() }
        }
        None if word.contains(['*', '?']) => named(word.to_owned()),
        None => named(format!("*{word}*")),
    });
    Filter { terms: terms.collect() }
}

fn named(value: String) -> Term {
    Term { key: "name".to_owned(), not: false, value }
}

/// Which events a place asks for, and the text that is then looked for in them.
pub(super) fn events(place: &Place, text: &str) -> (EventFilter, String) {
    let mut filter = EventFilter::default();
    match place {
        Place::Bucket(name) => filter.subject = Some(name.as_str().to_owned()),
        Place::Job(name) => filter.subject = Some(name.as_str().to_owned()),
        Place::Node { name, .. } => filter.node = Some(name.clone()),
        Place::Tab(_) | Place::Subtask(..) => {}
    }
    let mut rest = Vec::new();
    for word in text.split_whitespace() {
        let field = match word.split_once('=') {
            Some(("subject", value)) => Some((&mut filter.subject, value)),
            Some(("kind", value)) => Some((&mut filter.kind, value)),
            Some(("node", value)) => Some((&mut filter.node, value)),
            _ => None,
        };
        match field {
            Some((field, value)) if !value.is_empty() => *field = Some(value.to_owned()),
            _ => rest.push(word),
        }
    }
    (filter, rest.join(" "))
}

/// States, a selector, or else SQL.
fn subtasks(job: &JobName, look: &Look, rows: u32) -> SubtasksOf {
    let (size, token) = window(look, rows);
    let text = look.filter.trim();
    let mut of =
        SubtasksOf { job: job.clone(), size, token, states: Vec::new(), selector: None, condition: None };
    let state = |word: &str| SubtaskState::ALL.into_iter().find(|state| state.as_str() == word.trim());
    let states: Option<Vec<SubtaskState>> = text.split(',').map(state).collect();
    if let Some(mut states) = states {
        states.dedup();
        of.states = states;
    } else if let Ok(selector) = text.parse::<Selector>() {
        of.selector = Some(selector);
    } else if !text.is_empty() {
        of.condition = Some(text.to_owned());
    }
    of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobName {
        JobName::new("ndvi").expect("a name")
    }

    fn looked(filter: &str) -> Look {
        Look { filter: filter.to_owned(), ..Look::default() }
    }

    #[test]
    fn a_filter_is_terms_and_parts_of_names() {
        assert_eq!(filter("web state=running, owner!=eo").to_string(), "name=*web*,state=running,owner!=eo");
        assert_eq!(filter("/logs/*").to_string(), "name=/logs/*");
        assert!(filter("  ").terms.is_empty());
    }

    #[test]
    fn only_what_is_on_the_screen_is_asked_for_in_the_lists_own_order() {
        let look = Look { tokens: vec!["/a".to_owned(), "/b".to_owned()], ..Look::default() };
        assert_eq!(window(&look, 17), (17, "/b".to_owned()));
        let sorted = Look { sort: Some(Sort { column: 1, down: true }), ..look };
        assert_eq!(window(&sorted, 17), (PAGE_MAX, String::new()));
    }

    #[test]
    fn events_are_those_of_the_place() {
        let bucket = Place::Bucket(BucketName::new("/logs/web").expect("a name"));
        let (filter, rest) = events(&bucket, "kind=instance exit 3 subject=");
        assert_eq!(
            (filter.subject.as_deref(), filter.kind.as_deref()),
            (Some("/logs/web"), Some("instance"))
        );
        assert_eq!(rest, "exit 3 subject=");
        assert_eq!(events(&Place::Tab(Tab::Events), "node=n1").0.node.as_deref(), Some("n1"));
    }

    #[test]
    fn subtasks_are_chosen_by_state_number_or_sql() {
        let of = |text: &str| subtasks(&job(), &looked(text), 10);
        assert_eq!(of("failed,canceled").states, [SubtaskState::Failed, SubtaskState::Canceled]);
        assert_eq!(of("7,10-12").selector, "7,10-12".parse().ok());
        assert_eq!(of("exit_code = 2").condition.as_deref(), Some("exit_code = 2"));
        let all = of("");
        assert!(all.states.is_empty() && all.selector.is_none() && all.condition.is_none());
    }
}
