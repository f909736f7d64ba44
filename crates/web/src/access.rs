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
use sheaf_model::TokenId;
use sheaf_model::view::Asker;
use sheaf_wire::{ApiError, Bearer, Client};

use crate::answer::Failed;

/// The header that proves that a change comes from a page.
pub(crate) const CSRF: &str = "sheaf-csrf";
/// Sessions at a time; with one more the one that was idle longest goes, of those that nobody has logged in with first.
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
    login: Option<Login>,
    used: Instant,
}

/// What a browser has logged in with, and who that is to the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) token: Bearer,
    /// None: whoever answered did not say.
    pub(crate) asker: Option<Asker>,
}

impl Session {
    /// Whether somebody has logged in.
    pub(crate) fn is_logged_in(&self) -> bool {
        self.login.is_some()
    }

    /// Who has logged in, and what it may do, as far as that is known.
    pub(crate) fn asker(&self) -> Option<&Asker> {
        self.login.as_ref()?.asker.as_ref()
    }

    /// Which token it shows, or whose certificate has signed what it shows.
    pub(crate) fn token(&self) -> Option<TokenId> {
        self.login.as_ref()?.token.id()
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
        let session = Session { csrf: random()?, actor: actor(from), login: None, used: now };
        let cookie = Some(self.begin(session.clone(), now)?);
        Ok(Entered { session, cookie })
    }

    /// Keeps a session under a new id; the cookie that names it.
    fn begin(&self, session: Session, now: Instant) -> Result<String, Failed> {
        let id = random()?;
        let cookie = format!("{}={id}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        let mut sessions = self.lock();
        sessions.retain(|_, session| now.duration_since(session.used) < IDLE);
        if sessions.len() >= SESSIONS {
            let least = |session: &Session| (session.is_logged_in(), session.used);
            let oldest = sessions.iter().min_by_key(|(_, session)| least(session)).map(|(id, _)| id.clone());
            oldest.map(|id| sessions.remove(&id));
        }
        sessions.insert(id, session);
        Ok(cookie)
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
        match session.and_then(|session| session.login.as_ref()) {
            Some(login) => Ok(acting.presenting(Some(login.token.clone()))),
            None if self.secured => Err(Failed::unauthenticated("this cluster asks for a token: log in")),
            None => Ok(acting),
        }
    }

    /// The browser's session; none: it has none, or it is over.
    pub(crate) fn known(&self, headers: &HeaderMap) -> Option<Session> {
        self.session(headers, Instant::now())
    }

    /// From now on the browser shows this token: in a new session, so that whoever knows the former one, and may have put
    /// it there, has nothing of it. Its cookie.
    pub(crate) fn log_in(&self, headers: &HeaderMap, actor: String, login: Login) -> Result<String, Failed> {
        self.log_out(headers);
        let now = Instant::now();
        self.begin(Session { csrf: random()?, actor, login: Some(login), used: now }, now)
    }

    /// The browser's session is over.
    pub(crate) fn log_out(&self, headers: &HeaderMap) {
        let mut sessions = self.lock();
        if let Some(id) = self.id(headers, &sessions, Instant::now()) {
            sessions.remove(&id);
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
    use sheaf_model::TokenText;

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
    fn a_login_begins_a_session_that_nobody_could_know() {
        let access = Access::new(7421, true);
        let before = entered(&access, &HeaderMap::new()).cookie.expect("a new one");
        let token = TokenText::new(TokenId([1; 6]), [2; 32], None);
        let login = Login { token: token.into(), asker: None };
        let cookie = access.log_in(&with_cookie(&before), "web:1".to_owned(), login).expect("random bits");
        assert!(access.known(&with_cookie(&before)).is_none(), "the former one is over");
        let session = access.known(&with_cookie(&cookie)).expect("the new one");
        assert_eq!((session.is_logged_in(), session.token()), (true, Some(TokenId([1; 6]))));
        access.log_out(&with_cookie(&cookie));
        assert!(access.known(&with_cookie(&cookie)).is_none());
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
