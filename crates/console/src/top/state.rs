//! What somebody sees and what is known of it: keys and answers go in, what is wanted comes out. Pure.

use sheaf_model::Timestamp;
use sheaf_wire::ApiError;

use super::ask::{Answer, Ask, Piece};
use super::key::Key;
use super::screen::{Look, Page, Place, Screen, Sort, Tab};
use super::sheet::{Body, Grid, Sheet, Target, sheet};
use crate::exit::Failure;

/// The smallest screen, in columns and lines.
pub(super) const SMALLEST: (u16, u16) = (80, 24);
/// Lines that are always there: three above the page, two below.
pub(super) const FRAME: u16 = 5;
/// Longest filter.
const FILTER_MAX: usize = 500;
/// Places that are open on top of each other, at most; the first ones are forgotten.
const DEPTH: usize = 20;

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) size: (u16, u16),
    pub(super) tab: Tab,
    bases: Vec<Screen>,
    /// What was opened on top of the tab.
    opened: Vec<Screen>,
    /// The filter that is being written.
    pub(super) typing: Option<String>,
    pub(super) help: bool,
    known: Vec<Known>,
    pub(super) link: Link,
    /// Somebody has had enough.
    pub(super) done: bool,
    /// Somebody wants the shell for a while.
    pub(super) away: bool,
}

/// What is known of something that was asked.
#[derive(Debug)]
struct Known {
    ask: Ask,
    answer: Option<Answer>,
    at: Option<Timestamp>,
    trouble: Option<String>,
}

/// How well the cluster is heard.
#[derive(Debug)]
pub(super) struct Link {
    /// The node that is asked.
    pub(super) address: String,
    /// When it last answered.
    pub(super) heard: Option<Timestamp>,
    /// Why it does not.
    pub(super) trouble: Option<String>,
}

impl State {
    pub(super) fn new(address: &str, now: Timestamp, size: (u16, u16)) -> Self {
        let bases = Tab::ALL.map(|tab| Screen::new(Place::Tab(tab))).to_vec();
        let link = Link { address: address.to_owned(), heard: None, trouble: None };
        Self {
            now,
            size,
            tab: Tab::Overview,
            bases,
            opened: Vec::new(),
            typing: None,
            help: false,
            known: Vec::new(),
            link,
            done: false,
            away: false,
        }
    }

    /// The screen that is shown.
    pub(super) fn screen(&self) -> &Screen {
        self.opened.last().unwrap_or(&self.bases[self.tab as usize])
    }

    fn screen_mut(&mut self) -> &mut Screen {
        self.opened.last_mut().unwrap_or(&mut self.bases[self.tab as usize])
    }

    /// The way that led here.
    pub(super) fn way(&self) -> Vec<String> {
        let base = &self.bases[self.tab as usize];
        std::iter::once(base).chain(&self.opened).map(|screen| screen.place.title()).collect()
    }

    /// Lines for the rows of a list that comes in parts.
    fn rows(&self, screen: &Screen) -> u32 {
        u32::from(self.size.1.saturating_sub(FRAME + 1 + screen.page().detail()).max(1))
    }

    /// What the shown page of a screen is made of.
    pub(super) fn ask(&self, screen: &Screen) -> Ask {
        screen.ask(self.rows(screen))
    }

    /// Everything that is to be asked now, each once.
    pub(super) fn wanted(&self) -> Vec<Ask> {
        let screen = self.screen();
        let mut wanted = vec![Ask::Cluster, self.ask(screen)];
        wanted.extend(screen.about());
        let mut each: Vec<Ask> = Vec::new();
        for ask in wanted {
            if !each.contains(&ask) {
                each.push(ask);
            }
        }
        each
    }

    fn entry(&self, ask: &Ask) -> Option<&Known> {
        self.known.iter().find(|known| known.ask == *ask)
    }

    /// What was answered, if anything was.
    pub(super) fn answer(&self, ask: &Ask) -> Option<&Answer> {
        self.entry(ask)?.answer.as_ref()
    }

    /// Why something is not answered now, and when it was last.
    pub(super) fn trouble(&self, ask: &Ask) -> Option<(&str, Option<Timestamp>)> {
        let known = self.entry(ask)?;
        known.trouble.as_deref().map(|trouble| (trouble, known.at))
    }

    /// Takes a piece of an answer, or why there is none. What nobody wants any more is dropped.
    pub(super) fn fold(&mut self, ask: &Ask, found: Result<Piece, ApiError>) {
        if *ask == Ask::Cluster {
            match &found {
                Ok(_) => (self.link.heard, self.link.trouble) = (Some(self.now), None),
                Err(error) => self.link.trouble = Some(said(error)),
            }
        }
        let mut all = std::mem::take(&mut self.known);
        let open: Vec<Ask> = self.open().map(|screen| self.ask(screen)).collect();
        let kept = |known: &Known| {
            known.ask == Ask::Cluster
                || open.contains(&known.ask)
                || self.open().any(|screen| screen.about().as_ref() == Some(&known.ask))
        };
        all.retain(kept);
        let at = all.iter().position(|known| known.ask == *ask).unwrap_or_else(|| {
            all.push(Known { ask: ask.clone(), answer: None, at: None, trouble: None });
            all.len() - 1
        });
        let known = &mut all[at];
        match found {
            Ok(piece) => {
                known.answer = Some(piece.after(known.answer.take()));
                (known.at, known.trouble) = (Some(self.now), None);
            }
            Err(error) => {
                // It is no more, and is not shown as if it were.
                if matches!(error, ApiError::NotFound(_)) {
                    known.answer = None;
                }
                known.trouble = Some(said(&error));
            }
        }
        self.known = all;
    }

    /// Every screen that can be returned to.
    fn open(&self) -> impl Iterator<Item = &Screen> {
        self.bases.iter().chain(&self.opened)
    }

    /// Another node is asked from now on.
    pub(super) fn moved(&mut self, address: &str) {
        self.link.address = address.to_owned();
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key) {
        if let Some(text) = self.typing.take() {
            self.write(text, key);
            return;
        }
        if self.help {
            self.help = false;
            self.done = key == Key::Char('q') || key == Key::Control('c');
            return;
        }
        match key {
            Key::Char('q') | Key::Control('c') => self.done = true,
            Key::Control('z') => self.away = true,
            Key::Char('?') => self.help = true,
            Key::Char('/') => self.typing = Some(self.screen().look().filter.clone()),
            Key::Char(digit @ '1'..='5') => self.go_to(digit as usize - '1' as usize),
            Key::Tab => self.go_to((self.tab as usize + 1) % Tab::ALL.len()),
            Key::BackTab => self.go_to((self.tab as usize + Tab::ALL.len() - 1) % Tab::ALL.len()),
            Key::Left | Key::Char('h') => self.turn(false),
            Key::Right | Key::Char('l') => self.turn(true),
            Key::Escape | Key::Backspace => self.back(),
            Key::Char('s') => self.sort_by_next(),
            Key::Char('S') => self.sort_the_other_way(),
            key => self.step(key),
        }
    }

    /// A key while a filter is written.
    fn write(&mut self, mut text: String, key: Key) {
        match key {
            Key::Enter => {
                let look = self.screen_mut().look_mut();
                look.filter = text.trim().to_owned();
                look.held = None;
                look.rewind();
                return;
            }
            Key::Escape => return,
            Key::Control('c') => {
                self.done = true;
                return;
            }
            Key::Control('u') => text.clear(),
            Key::Backspace => drop(text.pop()),
            Key::Char(c) if text.len() < FILTER_MAX => text.push(c),
            _ => {}
        }
        self.typing = Some(text);
    }

    fn go_to(&mut self, tab: usize) {
        self.tab = Tab::ALL[tab];
        self.opened.clear();
    }

    /// To the next page of what is open, or the one before; of a tab, to the next tab.
    fn turn(&mut self, on: bool) {
        let screen = self.screen_mut();
        let pages = screen.place.pages().len();
        if pages == 1 {
            return self.press(if on { Key::Tab } else { Key::BackTab });
        }
        screen.shown = (screen.shown + if on { 1 } else { pages - 1 }) % pages;
    }

    /// Undoes a filter or a held log first, then closes what was opened.
    fn back(&mut self) {
        let look = self.screen_mut().look_mut();
        if look.held.take().is_some() {
            return;
        }
        if !look.filter.is_empty() {
            look.filter.clear();
            look.rewind();
        } else {
            self.opened.pop();
        }
    }

    fn open_place(&mut self, place: Place) {
        if self.screen().place == place {
            return;
        }
        if self.opened.len() == DEPTH {
            self.opened.remove(0);
        }
        self.opened.push(Screen::new(place));
    }

    fn sort_by_next(&mut self) {
        let Body::Table(grid) = sheet(self, self.screen()).body else { return };
        let columns: Vec<usize> = (0..grid.columns.len()).filter(|at| !grid.columns[*at].is_wide()).collect();
        let look = self.screen_mut().look_mut();
        let next = match look.sort {
            None => columns.first(),
            Some(sort) => columns.iter().find(|at| **at > sort.column),
        };
        // Of numbers the large ones are looked for.
        look.sort = next.map(|column| Sort { column: *column, down: grid.columns[*column].is_number() });
        look.rewind();
    }

    fn sort_the_other_way(&mut self) {
        let look = self.screen_mut().look_mut();
        if let Some(sort) = &mut look.sort {
            sort.down = !sort.down;
            look.rewind();
        }
    }

    /// Keys that depend on what the page is made of.
    fn step(&mut self, key: Key) {
        let Sheet { body, .. } = sheet(self, self.screen());
        let page = usize::from(self.size.1.saturating_sub(FRAME + 2).max(1));
        match body {
            Body::Table(grid) => self.step_table(key, &grid),
            Body::Text(lines) => {
                let look = self.screen_mut().look_mut();
                look.index = moved(key, look.index, lines.len(), page).unwrap_or(look.index);
            }
            Body::Log(log) => {
                let look = self.screen_mut().look_mut();
                let on = |by: u64| Some(log.last + by).filter(|to| !log.follows && *to < log.total);
                look.held = match key {
                    Key::Up | Key::Char('k') => Some(log.last.saturating_sub(1)),
                    Key::PageUp => Some(log.last.saturating_sub(page as u64)),
                    Key::Down | Key::Char('j') => on(1),
                    Key::PageDown => on(page as u64),
                    Key::Home | Key::Char('g') => Some(0),
                    Key::End | Key::Char('G' | 'f') => None,
                    Key::Char(' ') => log.follows.then_some(log.last),
                    _ => return,
                };
            }
            Body::Unknown => {}
        }
    }

    fn step_table(&mut self, key: Key, grid: &Grid) {
        let screen = self.screen();
        let at = grid.chosen(screen.look());
        let is_paged = screen.page().is_paged() && screen.look().sort.is_none();
        let last = grid.rows.len().saturating_sub(1);
        match key {
            Key::Enter => {
                let target = grid.rows.get(at).and_then(|row| row.target.clone());
                return target.into_iter().for_each(|target| self.follow(target));
            }
            Key::PageDown if is_paged => return self.page_on(),
            Key::Down | Key::Char('j') if is_paged && at == last && grid.more => return self.page_on(),
            Key::PageUp if is_paged => return self.page_back(0),
            Key::Up | Key::Char('k') if is_paged && at == 0 => return self.page_back(usize::MAX),
            Key::Home | Key::Char('g') if is_paged => return self.screen_mut().look_mut().rewind(),
            _ => {}
        }
        let page = self.rows(self.screen()) as usize;
        let Some(next) = moved(key, at, grid.rows.len(), page) else { return };
        let look = self.screen_mut().look_mut();
        look.key = grid.rows.get(next).map(|row| row.key.clone());
        look.index = next;
    }

    /// To the next part of a list, if the cluster has more.
    fn page_on(&mut self) {
        let next = match self.answer(&self.ask(self.screen())) {
            Some(Answer::Buckets(part)) => part.next.clone(),
            Some(Answer::Nodes(part)) => part.next.clone(),
            Some(Answer::Jobs(part)) => part.next.clone(),
            Some(Answer::Subtasks(part)) => part.next.clone(),
            _ => return,
        };
        let look = self.screen_mut().look_mut();
        if next.is_empty() {
            (look.key, look.index) = (None, usize::MAX);
        } else {
            look.tokens.push(next);
            (look.key, look.index) = (None, 0);
        }
    }

    /// To the part before, there to this row.
    fn page_back(&mut self, index: usize) {
        let look = self.screen_mut().look_mut();
        let index = if look.tokens.pop().is_some() { index } else { 0 };
        (look.key, look.index) = (None, index);
    }

    fn follow(&mut self, target: Target) {
        match target {
            Target::Place(place) => self.open_place(place),
            Target::Jobs(filter) => {
                self.go_to(Tab::Jobs as usize);
                self.narrow(Page::Jobs, filter);
            }
            Target::Subtasks(filter) => self.narrow(Page::Subtasks, filter),
            Target::Output(attempt) => {
                self.screen_mut().attempt = attempt;
                self.narrow(Page::Output, String::new());
            }
        }
    }

    /// Turns to a page, and shows only this there.
    fn narrow(&mut self, page: Page, filter: String) {
        let screen = self.screen_mut();
        if let Some(at) = screen.place.pages().iter().position(|other| *other == page) {
            screen.shown = at;
            screen.looks[at] = Look { filter, ..Look::default() };
        }
    }
}

/// Where a key leads to among so many lines.
fn moved(key: Key, at: usize, count: usize, page: usize) -> Option<usize> {
    let last = count.saturating_sub(1);
    Some(match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => (at + 1).min(last),
        Key::PageUp => at.saturating_sub(page),
        Key::PageDown | Key::Char(' ') => (at + page).min(last),
        Key::Home | Key::Char('g') => 0,
        Key::End | Key::Char('G') => last,
        _ => return None,
    })
}

/// An error in a line, with its remedy.
fn said(error: &ApiError) -> String {
    let text = Failure::from(error.clone()).to_string();
    text.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
