//! The lines around a page.

use ratatui_core::layout::Position;

use super::super::ask::{Answer, Ask};
use super::super::clean::{clean, width};
use super::super::screen::Tab;
use super::super::sheet::{Body, Sheet};
use super::super::state::State;
use super::{Ink, Paper};
use crate::text::count;
use crate::when;

/// Answers come about every second: one that is older than this is said to be old. Milliseconds.
const FRESH: u128 = 5_000;

/// How the cluster stands, the tabs, and the way that led here.
pub(super) fn top(paper: &mut Paper<'_>, state: &State, sheet: &Sheet) {
    let address = &state.link.address;
    let (text, ink) = match (&state.link.trouble, state.link.heard) {
        (None, _) => (stands(state), Ink::Strong),
        (Some(why), None) => (format!("NO ANSWER yet; asking {address}: {why}"), Ink::Alarm),
        (Some(why), Some(heard)) => {
            let age = when::age(state.now, heard);
            (format!("NO ANSWER for {age}, shown is what was then; asking {address}: {why}"), Ink::Alarm)
        }
    };
    paper.line(0, 0, &clean(&text), ink);
    let mut x = 0;
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let name = format!("{} {}", number + 1, tab.title());
        x = if tab == state.tab {
            paper.line(x, 1, &format!("[{name}]"), Ink::Strong)
        } else {
            paper.line(x, 1, &format!(" {name} "), Ink::Plain)
        };
        x += 1;
    }
    way(paper, state, sheet);
}

fn stands(state: &State) -> String {
    let Some(Answer::Cluster(status)) = state.answer(&Ask::Cluster) else {
        return format!("sheaf top: asking {} ...", state.link.address);
    };
    let leader = match &status.leader {
        Some(leader) => format!("leader {leader}"),
        None => "NO LEADER".to_owned(),
    };
    let voters = status.members.iter().filter(|member| member.voter).count();
    let lost = if status.nodes.lost > 0 { format!(", {} LOST", status.nodes.lost) } else { String::new() };
    format!(
        "{leader}  {}, {} may fail  {} ready{lost}  by {}",
        count(voters, "voter"),
        status.fault_tolerance,
        count(status.nodes.ready as usize, "node"),
        state.link.address
    )
}

/// `Buckets > /logs/web  running: why        [instances] gates history logs events`
fn way(paper: &mut Paper<'_>, state: &State, sheet: &Sheet) {
    let screen = state.screen();
    let pages = screen.place.pages();
    let mut right = String::new();
    for (at, page) in pages.iter().enumerate().filter(|_| pages.len() > 1) {
        let title = page.title();
        right += &if at == screen.shown { format!(" [{title}]") } else { format!("  {title} ") };
    }
    let begin = paper.columns().saturating_sub(u16::try_from(width(&right)).unwrap_or(u16::MAX));
    let room = begin.saturating_sub(1);
    let (strong, plain) = (paper.style(Ink::Strong), paper.style(Ink::Plain));
    let ways = state.way();
    // The first and the last steps say the most.
    let text = match ways.as_slice() {
        [first, .., before, last] if ways.len() > 3 => format!("{first} > .. > {before} > {last}"),
        ways => ways.join(" > "),
    };
    let mut x = paper.put(0, 2, &clean(&text), room, strong);
    if !sheet.word.is_empty() && x + 2 < room {
        let style = paper.style_of(&sheet.word);
        x = paper.put(x + 2, 2, &sheet.word, room - x - 2, style);
        if !sheet.about.is_empty() && x + 2 < room {
            paper.put(x, 2, &format!(": {}", sheet.about), room - x, plain);
        }
    }
    paper.line(begin, 2, &right, Ink::Plain);
}

/// What narrows and orders the page, what troubles it, and the keys; where the cursor stands while a filter is written.
pub(super) fn bottom(paper: &mut Paper<'_>, state: &State, sheet: &Sheet) -> Option<Position> {
    let last = paper.buffer.area.height - 1;
    if let Some(typing) = &state.typing {
        let help = state.screen().page().filter_help();
        paper.line(0, last - 1, &format!("Enter applies it, Esc leaves it; {help}"), Ink::Faint);
        // Of a long one the end is what is being written.
        let mut written = clean(typing);
        while width(&written) + 2 > usize::from(paper.columns()) {
            written.remove(0);
        }
        let x = paper.line(0, last, &format!("/{written}"), Ink::Strong);
        return Some(Position::new(x.min(paper.columns() - 1), last));
    }
    let trouble = state.trouble(&state.ask(state.screen())).filter(|_| !matches!(sheet.body, Body::Unknown));
    match trouble {
        Some((why, at)) => {
            let age = at.map(|at| format!("{} old: ", when::age(state.now, at))).unwrap_or_default();
            paper.line(0, last - 1, &clean(&format!("! {age}{why}")), Ink::Alarm);
        }
        None => {
            paper.line(0, last - 1, &clean(&note(state, sheet)), Ink::Faint);
        }
    }
    let keys = "Enter open  Esc back  <- -> pages  / filter  s S sort  1-5 tabs  ? help  q quit";
    paper.line(0, last, keys, Ink::Plain);
    None
}

/// `row 3 of 12 and more, page 2   sorted by STATE   filter: web (Esc clears)`
fn note(state: &State, sheet: &Sheet) -> String {
    let screen = state.screen();
    let look = screen.look();
    let mut said = Vec::new();
    match &sheet.body {
        Body::Table(grid) if !grid.rows.is_empty() => {
            let more = if grid.more { " and more" } else { "" };
            let passed = look.tokens.len();
            let is_part = look.sort.is_none() && (passed > 0 || grid.more);
            let page = if is_part { format!(", page {}", passed + 1) } else { String::new() };
            said.push(format!("row {} of {}{more}{page}", grid.chosen(look) + 1, grid.rows.len()));
            if let Some(column) = look.sort.and_then(|sort| grid.columns.get(sort.column)) {
                let among = if grid.more { ", among the first rows only: a filter narrows them" } else { "" };
                said.push(format!("sorted by {}{among}", column.title()));
            }
        }
        Body::Log(log) if log.ended => said.push("it has ended".to_owned()),
        Body::Log(log) if log.follows => said.push("following; up or space holds".to_owned()),
        Body::Log(log) => said.push(format!("held at line {} of {}; End follows again", log.last, log.total)),
        _ => {}
    }
    if !look.filter.is_empty() {
        said.push(format!("filter: {} (Esc clears)", look.filter));
    }
    if let Some(heard) = state.link.heard.filter(|heard| heard.until(state.now).as_millis() > FRESH) {
        said.push(format!("{} old", when::age(state.now, heard)));
    }
    said.join("   ")
}
