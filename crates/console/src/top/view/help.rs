//! What the keys do.

use super::{Ink, Paper};

const LINES: [&str; 22] = [
    "sheaf top shows a cluster as it is now. It changes nothing, whatever is pressed.",
    "",
    "  1 2 3 4 5, Tab      overview, buckets, nodes, jobs, events",
    "  up down, k j        another row; beyond the last one the next page of a list",
    "  PgUp PgDn Home End  a page on or back, the first or the last row",
    "  Enter               open: bucket, node, job, failure group, subtask, attempt",
    "  left right, h l     the pages of what is open: gates, history, logs, ...",
    "  Esc                 clear the filter, follow a held log again, or go back",
    "  /                   filter; what it takes is said while it is written",
    "  s, S                sort by the next column; the other way round",
    "  space               hold a log, or follow it again",
    "  Ctrl-Z              to the shell for a while",
    "  q, Ctrl-C           quit",
    "",
    "In logs  |  is what a program printed,  !  its complaints,  *  Sheaf's words.",
    "A list in its own order is asked for as far as it is on the screen, sorted by a",
    "column its first 1,000 rows. A node that does not answer is replaced by another",
    "voter; how old what is shown is stands in the first line.",
    "Control characters are shown as signs like \u{241b} and do nothing.",
    "",
    "To change something: sheaf bucket, sheaf node, sheaf job; sheaf help.",
    "Any key closes this.",
];

pub(super) fn draw(paper: &mut Paper<'_>) {
    for (y, line) in (0..).zip(LINES) {
        paper.line(0, y, line, if y == 0 { Ink::Strong } else { Ink::Plain });
    }
}
