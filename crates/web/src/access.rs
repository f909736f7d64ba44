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
//!
//! A session that began by TLS is none without, and the other way round: what went over the wire in the open opens nothing else.

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
use crate::door::Peer;

/// The header that proves that a change comes from a page.
pub(crate) const CSRF: &str = "sheaf-csrf";
/// Sessions at a time; with one more the one that was idle longest goes, of those that nobody has logged in with first.
const SESSIONS: usize = 1024;
/// A session nobody used for so long is over.
const IDLE: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions of browsers.
pub(crate) struct Access {
    /// What the cookie is called. Cookies are shared by all ports of a host, and `sheaf dev` has many nodes on one.
    cookie: String,
    /// The same by TLS. Browsers take one of such a name from nobody but this very host, by TLS (RFC 6265bis, 4.1.3.2).
    cookie_by_tls: String,
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
    by_tls: bool,
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
        let cookie = format!("sheaf-{port}");
        let cookie_by_tls = format!("__Host-{cookie}");
        Self { cookie, cookie_by_tls, secured, sessions: Mutex::default() }
    }

    /// Whether a token is asked for.
    pub(crate) fn is_secured(&self) -> bool {
        self.secured
    }

    /// The browser's session, or a new one.
    pub(crate) fn enter(&self, headers: &HeaderMap, peer: Peer) -> Result<Entered, Failed> {
        let now = Instant::now();
        if let Some(session) = self.session(headers, peer.by_tls, now) {
            return Ok(Entered { session, cookie: None });
        }
        let actor = actor(peer.address.ip());
        let session = Session { csrf: random()?, actor, login: None, by_tls: peer.by_tls, used: now };
        let cookie = Some(self.begin(session.clone(), now)?);
        Ok(Entered { session, cookie })
    }

    /// Keeps a session under a new id; the cookie that names it.
    fn begin(&self, session: Session, now: Instant) -> Result<String, Failed> {
        let id = random()?;
        let (name, secure) = (self.name(session.by_tls), if session.by_tls { "Secure; " } else { "" });
        let cookie = format!("{name}={id}; Path=/; {secure}HttpOnly; SameSite=Strict");
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

    fn name(&self, by_tls: bool) -> &str {
        if by_tls { &self.cookie_by_tls } else { &self.cookie }
    }

    /// Who may change something: a browser with a session, from a page that knows the session's token.
    pub(crate) fn may_change(&self, headers: &HeaderMap, by_tls: bool) -> Result<Session, Failed> {
        let Some(session) = self.session(headers, by_tls, Instant::now()) else {
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
        let acting = acting.asking_for(from);
        match session.and_then(|session| session.login.as_ref()) {
            Some(login) => Ok(acting.presenting(Some(login.token.clone()))),
            None if self.secured => Err(Failed::unauthenticated("this cluster asks for a token: log in")),
            None => Ok(acting),
        }
    }

    /// The browser's session; none: it has none, or it is over.
    pub(crate) fn known(&self, headers: &HeaderMap, by_tls: bool) -> Option<Session> {
        self.session(headers, by_tls, Instant::now())
    }

    /// From now on the browser of this session shows this token: in a new session, so that whoever knows the former one, and may
    /// have put it there, has nothing of it. Its cookie.
    pub(crate) fn log_in(
        &self,
        headers: &HeaderMap,
        session: Session,
        login: Login,
    ) -> Result<String, Failed> {
        self.log_out(headers, session.by_tls);
        let now = Instant::now();
        self.begin(Session { csrf: random()?, login: Some(login), used: now, ..session }, now)
    }

    /// The browser's session is over.
    pub(crate) fn log_out(&self, headers: &HeaderMap, by_tls: bool) {
        let mut sessions = self.lock();
        if let Some(id) = self.id(headers, by_tls, &sessions, Instant::now()) {
            sessions.remove(&id);
        }
    }

    fn session(&self, headers: &HeaderMap, by_tls: bool, now: Instant) -> Option<Session> {
        let mut sessions = self.lock();
        let id = self.id(headers, by_tls, &sessions, now)?;
        let session = sessions.get_mut(&id)?;
        session.used = now;
        Some(session.clone())
    }

    fn id(
        &self,
        headers: &HeaderMap,
        by_tls: bool,
        sessions: &HashMap<String, Session>,
        now: Instant,
    ) -> Option<String> {
        let name = self.name(by_tls);
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut ids = cookies
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='));
        ids.find_map(|id| {
            let session = sessions.get(id).filter(|session| session.by_tls == by_tls)?;
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

    const FROM: Peer = Peer {
        address: std::net::SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1),
        by_tls: false,
    };
    const BY_TLS: Peer = Peer { by_tls: true, ..FROM };

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
        assert!(access.may_change(&headers, false).is_err(), "no token");
        headers.insert(CSRF, HeaderValue::from_str(&session.csrf[1..]).expect("a header"));
        assert!(access.may_change(&headers, false).is_err(), "another token");
        headers.insert(CSRF, HeaderValue::from_str(&session.csrf).expect("a header"));
        assert_eq!(access.may_change(&headers, false).expect("all is there").actor, "web:127.0.0.1");
        headers.remove(header::COOKIE);
        assert!(access.may_change(&headers, false).is_err(), "no session");
        assert!(
            Access::new(7421, false).may_change(&with_cookie(&cookie), false).is_err(),
            "of another life"
        );
    }

    #[test]
    fn a_login_begins_a_session_that_nobody_could_know() {
        let access = Access::new(7421, true);
        let Entered { session: former, cookie: before } = entered(&access, &HeaderMap::new());
        let before = before.expect("a new one");
        let token = TokenText::new(TokenId([1; 6]), [2; 32], None);
        let login = Login { token: token.into(), asker: None };
        let cookie = access.log_in(&with_cookie(&before), former.clone(), login).expect("random bits");
        assert!(access.known(&with_cookie(&before), false).is_none(), "the former one is over");
        let session = access.known(&with_cookie(&cookie), false).expect("the new one");
        assert_eq!((session.is_logged_in(), session.token()), (true, Some(TokenId([1; 6]))));
        assert_ne!(session.csrf, former.csrf);
        access.log_out(&with_cookie(&cookie), false);
        assert!(access.known(&with_cookie(&cookie), false).is_none());
    }

    #[test]
    fn a_session_by_tls_has_a_cookie_for_that_alone_and_opens_nothing_else() {
        let access = Access::new(7421, true);
        let Entered { session, cookie } = access.enter(&HeaderMap::new(), BY_TLS).expect("random bits");
        let cookie = cookie.expect("a new one");
        let (name, rest) = cookie.split_once('=').expect("a name and a value");
        assert_eq!(name, "__Host-sheaf-7421");
        assert!(rest.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains("Domain"), "browsers would not take it");
        let mut headers = with_cookie(&cookie);
        headers.insert(CSRF, HeaderValue::from_str(&session.csrf).expect("a header"));
        assert!(access.may_change(&headers, true).is_ok() && access.may_change(&headers, false).is_err());
        // Whoever reads or sets cookies without TLS has nothing of it under the other name.
        let plain = with_cookie(cookie.trim_start_matches("__Host-"));
        assert!(access.known(&plain, false).is_none() && access.known(&plain, true).is_none());
        let open = entered(&access, &HeaderMap::new()).cookie.expect("a new one");
        let planted = with_cookie(&format!("__Host-{open}"));
        assert!(access.known(&with_cookie(&open), false).is_some() && access.known(&planted, true).is_none());
        access.log_out(&headers, false);
        assert!(access.known(&headers, true).is_some(), "that was another's");
    }

    #[test]
    fn a_session_lasts_while_it_is_used_and_is_over_and_gone_when_nobody_does() {
        let access = Access::new(7421, true);
        let Entered { session, cookie } = entered(&access, &HeaderMap::new());
        let plain = cookie.expect("a new one");
        let other = entered(&access, &HeaderMap::new());
        let login = Login { token: TokenText::new(TokenId([1; 6]), [2; 32], None).into(), asker: None };
        let before = with_cookie(&other.cookie.expect("a new one"));
        let logged_in = access.log_in(&before, other.session, login).expect("random bits");
        let mut last = Instant::now();
        for cookie in [plain, logged_in] {
            let headers = with_cookie(&cookie);
            let mut now = Instant::now();
            for _ in 0..14 {
                now += IDLE / 2;
                assert!(access.session(&headers, false, now).is_some(), "a tab that is open asks: a week");
            }
            now += IDLE;
            assert!(access.session(&headers, false, now).is_none(), "closed for so long");
            last = last.max(now);
        }
        assert_eq!(access.lock().len(), 2);
        access.begin(Session { used: last, ..session }, last).expect("random bits");
        assert_eq!(access.lock().len(), 1, "what is over takes no room");
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
