//! Who asks, and what may be asked in whose name: the one place that knows sessions.
//!
//! ```text
//!  nothing secured: GET  ── anybody who reaches the port ─────────────────────► Client acting as web:ADDRESS
//!                   POST ── cookie (who) + header sheaf-csrf (the page itself) ─► the same
//!  a secured node:  POST login, a token ──► the session has it ──► Client that shows it, for GET and POST alike
//! ```
//!
//! Where nothing is secured whoever reaches the port may do everything, as on the gRPC port. A session proves in any case
//! that a change comes from a page that this node gave out, and not from another site in the same browser. A token is kept
//! in memory alone; what its owner may do is decided by the cluster at each call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header;
use sheaf_wire::{ApiError, Bearer, Client};

use crate::answer::Failed;

/// The header that proves that a change comes from a page.
pub(crate) const CSRF: &str = "sheaf-csrf";
/// Sessions at a time; with one more the one that was idle longest goes.
const SESSIONS: usize = 1024;
/// A session nobody used for so long is over.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions of browsers.
pub(crate) struct Access {
    /// Cookies are shared by all ports of a host, and `sheaf dev` has many nodes on one.
    cookie: String,
    /// Who asks must have shown a token.
    secured: bool,
    sessions: Mutex<HashMap<String, Session>>,
}

/// A browser's session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// What a page must send along with a change.
    pub(crate) csrf: String,
    /// Who it is, for history.
    pub(crate) actor: String,
    /// What its browser has logged in with.
    token: Option<Bearer>,
    used: Instant,
}

impl Session {
    /// Whether somebody has logged in.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

/// A session for a browser, and the cookie to set if it is new.
pub(crate) struct Entered {
    pub(crate) session: Session,
    pub(crate) cookie: Option<String>,
}

impl Access {
    /// For everybody who reaches the port, or for those alone who show a token.
    pub(crate) fn new(port: u16, secured: bool) -> Self {
        Self { cookie: format!("sheaf-{port}"), secured, sessions: Mutex::default() }
    }

    /// Whether a token is asked for.
    pub(crate) fn is_secured(&self) -> bool {
        self.secured
    }

    /// The browser's session, or a new one.
    pub(crate) fn enter(&self, headers: &HeaderMap, from: IpAddr) -> Result<Entered, Failed> {
        let now = Instant::now();
        if let Some(session) = self.session(headers, now) {
            return Ok(Entered { session, cookie: None });
        }
        let session = Session { csrf: random()?, actor: actor(from), token: None, used: now };
        let id = random()?;
        let cookie = format!("{}={id}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        let mut sessions = self.lock();
        sessions.retain(|_, session| now.duration_since(session.used) < IDLE);
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone());
            oldest.map(|id| sessions.remove(&id));
        }
        sessions.insert(id, session.clone());
        Ok(Entered { session, cookie: Some(cookie) })
    }

    /// Who may change something: a browser with a session, from a page that knows the session's token.
    pub(crate) fn may_change(&self, headers: &HeaderMap) -> Result<Session, Failed> {
        let Some(session) = self.session(headers, Instant::now()) else {
            return Err(Failed::forbidden(
                "no session, or it is over",
                "load the page again; programs use the gRPC port or the command line",
            ));
        };
        let token = headers.get(CSRF).map(http::HeaderValue::as_bytes).unwrap_or_default();
        if !same(token, session.csrf.as_bytes()) {
            let remedy =
                format!("the header {CSRF} with the token that /api/v1/session answers; load the page again");
            return Err(Failed::forbidden("the session's token is missing or wrong", remedy));
        }
        Ok(session)
    }

    /// The client that asks in the name of the session, which is needed where a token is.
    pub(crate) fn client(
        &self,
        client: &Client,
        session: Option<&Session>,
        from: IpAddr,
    ) -> Result<Client, Failed> {
        let acting =
            client.acting_as(&session.map_or_else(|| actor(from), |session| session.actor.clone()))?;
        match session.and_then(|session| session.token.clone()) {
            Some(token) => Ok(acting.presenting(Some(token))),
            None if self.secured => Err(Failed::unauthenticated("this cluster asks for a token: log in")),
            None => Ok(acting),
        }
    }

    /// The browser's session; none: it has none, or it is over.
    pub(crate) fn known(&self, headers: &HeaderMap) -> Option<Session> {
        self.session(headers, Instant::now())
    }

    /// From now on the browser's session shows this token, or none any more.
    pub(crate) fn keep(&self, headers: &HeaderMap, token: Option<Bearer>) {
        let Some(id) = self.id(headers, &self.lock(), Instant::now()) else { return };
        if let Some(session) = self.lock().get_mut(&id) {
            session.token = token;
        }
    }

    fn session(&self, headers: &HeaderMap, now: Instant) -> Option<Session> {
        let mut sessions = self.lock();
        let id = self.id(headers, &sessions, now)?;
        let session = sessions.get_mut(&id)?;
        session.used = now;
        Some(session.clone())
    }

    fn id(&self, headers: &HeaderMap, sessions: &HashMap<String, Session>, now: Instant) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut ids = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(&self.cookie)?.strip_prefix('='));
        ids.find_map(|id| {
            let session = sessions.get(id)?;
            (now.duration_since(session.used) < IDLE).then(|| id.to_owned())
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // Nothing is left half done in there.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks without a session.
pub(crate) fn actor(from: IpAddr) -> String {
    format!("web:{from}")
}

/// 256 random bits as text.
pub(crate) fn random() -> Result<String, Failed> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failed::from(ApiError::Internal(format!("no random bytes from the system: {error}")))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares in a time that does not say how much was right.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0, |all, (left, right)| all | (left ^ right));
    left.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn entered(access: &Access, headers: &HeaderMap) -> Entered {
        access.enter(headers, FROM).unwrap_or_else(|failed| panic!("{failed:?}"))
    }

    fn with_cookie(cookie: &str) -> HeaderMap {
        let id = cookie.split(';').next().unwrap_or_default();
        HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::from_str(&format!("other=1; {id}")).expect("a header"),
        )])
    }

    #[test]
    fn a_change_needs_a_session_and_its_token() {
        let access = Access::new(7421, false);
        let Entered { session, cookie } = entered(&access, &HeaderMap::new());
        let cookie = cookie.expect("a new one");
        assert!(cookie.starts_with("sheaf-7421=") && cookie.contains("HttpOnly; SameSite=Strict"));
        let mut headers = with_cookie(&cookie);
        assert!(entered(&access, &headers).cookie.is_none(), "it is known");
        assert!(access.may_change(&headers).is_err(), "no token");
        headers.insert(CSRF, HeaderValue::from_str(&session.csrf[1..]).expect("a header"));
        assert!(access.may_change(&headers).is_err(), "another token");
        headers.insert(CSRF, HeaderValue::from_str(&session.csrf).expect("a header"));
        assert_eq!(access.may_change(&headers).expect("all is there").actor, "web:127.0.0.1");
        headers.remove(header::COOKIE);
        assert!(access.may_change(&headers).is_err(), "no session");
        assert!(Access::new(7421, false).may_change(&with_cookie(&cookie)).is_err(), "of another life");
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let access = Access::new(1, false);
        let first = entered(&access, &HeaderMap::new()).cookie.expect("new");
        let second = entered(&access, &HeaderMap::new()).cookie.expect("new");
        for _ in 2..SESSIONS {
            entered(&access, &HeaderMap::new());
        }
        entered(&access, &with_cookie(&first));
        entered(&access, &HeaderMap::new());
        assert_eq!(access.lock().len(), SESSIONS);
        assert!(entered(&access, &with_cookie(&first)).cookie.is_none(), "used lately");
        assert!(entered(&access, &with_cookie(&second)).cookie.is_some(), "idle longest");
    }
}
