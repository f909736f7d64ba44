//! Who is let in: what a call shows, looked up in the replicated state; and the tokens, `sheaf.v1.ClusterService`'s part of it.
//!
//! ```text
//!  Presented ──token, or signed──► its record: known, not expired ──► User or Joining ──┐
//!      └──certificate──► the node whose call it is ─────────────────► Node ─────────────┴─► meets(Need)? ──► Admitted
//! ```

mod attempts;
mod certificate;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sheaf_engine::rotation::lacking;
use sheaf_engine::status::Sight;
use sheaf_engine::{AccessCommand, Command, CreateToken as Create, Reply, State};
use sheaf_model::view::TokenRow;
use sheaf_model::{Digest, NodeId, Timestamp, TokenId, TokenRecord, TokenText, TokenUse};
use sheaf_wire::cluster::{CreateToken, CreatedToken, ListTokens, RevokeToken};
use sheaf_wire::{
    Admitted, ApiError, Bearer, Caller, Certificate, Done, Guard, Need, Page, Presented, guard,
};

pub(crate) use attempts::Attempts;

use crate::Control;
use crate::filter::{page, selects};
use crate::others::stays;
use crate::place::Member;
use crate::propose::{FRESH_WITHIN, refused};

/// So soon after its token was revoked a stream ends.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);

impl Guard for Control {
    fn admit(&self, presented: Presented, need: Need) -> BoxFuture<'_, Result<Admitted, ApiError>> {
        Box::pin(async move {
            let member = self.place.member();
            let admitted = match (&presented.token, &member) {
                // All that a node without a replica answers to people is what it waits for itself.
                (_, None) if need == Need::Viewer => return Ok(Admitted::Nobody),
                (Some(_), None) => {
                    let why = "this node holds no replica, so it cannot look a token up";
                    return Err(ApiError::unavailable(why));
                }
                (Some(token), Some(member)) => {
                    admitted_by(&*self.token(member, token, presented.remote).await?)
                }
                (None, _) => self.by_certificate(&presented)?,
            };
            admitted.meets(need)?;
            match (&admitted, need) {
                (Admitted::Node(node), Need::Member) => self.keeps_the_log(*node).await?,
                (Admitted::Node(node), Need::Registered | Need::Viewer) => self.belongs(*node).await?,
                _ => {}
            }
            Ok(admitted)
        })
    }

    fn is_member(&self, node: NodeId) -> bool {
        let members = self.place.member().map(|member| member.replica.metrics().members);
        members.is_some_and(|members| members.iter().any(|member| member.peer.node == node))
    }

    fn until_gone(&self, admitted: &Admitted) -> BoxFuture<'static, ()> {
        let Some(member) = self.place.member() else { return Box::pin(std::future::pending()) };
        match admitted {
            Admitted::User { name, .. } => {
                let (name, clock) = (name.clone(), self.clock.clone());
                let made = member.replica.state().access.named(name.as_str()).map(|token| token.id);
                Box::pin(until(member, move |state| {
                    let token = state.access.named(name.as_str()).filter(|token| Some(token.id) == made);
                    token.is_none_or(|token| has_expired(token, clock.wall()))
                }))
            }
            Admitted::Node(node) => {
                let node = *node;
                Box::pin(until(member, move |state| stays(state, node).is_err()))
            }
            Admitted::Open | Admitted::Nobody | Admitted::Joining { .. } => Box::pin(std::future::pending()),
        }
    }
}

/// Done when what is said of the state is so; looked at now and then.
async fn until(member: Member, is_so: impl Fn(&State) -> bool + Send) {
    loop {
        tokio::time::sleep(LOOKED_AT_EVERY).await;
        let over = is_so(&member.replica.state());
        if over {
            return;
        }
    }
}

impl Control {
    fn by_certificate(&self, presented: &Presented) -> Result<Admitted, ApiError> {
        match (presented.certificate, presented.on_behalf) {
            (Some(Certificate::Bootstrap), _) => {
                Ok(Admitted::Joining { may_vote: true, by: "the cluster's key".to_owned() })
            }
            (Some(Certificate::Node(by)), Some(node)) if by == node || self.is_member(by) => {
                Ok(Admitted::Node(node))
            }
            (Some(Certificate::Node(by)), Some(node)) => Err(ApiError::Forbidden(format!(
                "node {by} is no member and does not carry the calls of node {node}"
            ))),
            // Carried on for somebody who showed nothing.
            (Some(Certificate::Node(_)), None) | (None, _) => Err(guard::nobody()),
        }
    }

    /// The token or certificate that is shown, if it is known and valid. It may have been made so lately that this member must
    /// catch up.
    ///
    /// # Errors
    /// `Unauthenticated`: unknown (revoked, or never made), or expired. `Busy`: too many failed lately from there.
    pub(crate) async fn token(
        &self,
        member: &Member,
        shown: &Bearer,
        from: Option<IpAddr>,
    ) -> Result<Arc<TokenRecord>, ApiError> {
        let id = shown.id();
        let known = || id.and_then(|id| member.replica.state().access.tokens.get(&id).cloned());
        let mut found = known();
        let mut counted = false;
        if found.is_none() {
            // Before anything is asked of the leader for it.
            self.failed(from)?;
            counted = true;
            let _ = tokio::time::timeout(FRESH_WITHIN, member.replica.read_index()).await;
            found = known();
        }
        let now = self.clock.wall();
        let proven = match found {
            Some(token) => proves(member, shown, &token, now).map(|()| token),
            None => Err(UNKNOWN.to_owned()),
        };
        let why = match proven {
            Ok(token) if !has_expired(&token, now) => return Ok(token),
            Ok(token) => format!("token {} has expired at {}", token.name, expiry(&token)),
            Err(why) => why,
        };
        if !counted {
            self.failed(from)?;
        }
        let (token, from) = (id.map(tracing::field::display), from.map(tracing::field::display));
        tracing::warn!(token, from, "a call was refused: {why}");
        Err(ApiError::Unauthenticated(format!(
            "{why}; an admin makes another: sheaf cluster token create; then sheaf login, or SHEAF_TOKEN"
        )))
    }

    /// What a join token proves: whether the node may vote, and the token's name.
    ///
    /// # Errors
    /// `Unauthenticated`: it is not known, or has expired. `Forbidden`: it is a person's or a program's.
    pub async fn joining(&self, shown: &TokenText, from: Option<IpAddr>) -> Result<(bool, String), ApiError> {
        let member = self.member()?;
        let token = self.token(&member, &shown.clone().into(), from).await?;
        match &token.of {
            TokenUse::Join { voter } => Ok((*voter, token.name.to_string())),
            TokenUse::User(_) | TokenUse::Certificate { .. } => Err(ApiError::Forbidden(format!(
                "token {} is for people and programs; an admin makes one to join with: sheaf cluster token create --role agent",
                token.name
            ))),
        }
    }

    fn failed(&self, from: Option<IpAddr>) -> Result<(), ApiError> {
        if self.attempts.take(from, self.clock.moment()) {
            return Ok(());
        }
        let from = from.map_or_else(|| "there".to_owned(), |from| from.to_string());
        Err(ApiError::Busy(format!(
            "too many calls from {from} have shown tokens that are not valid; wait a second, and show one that is"
        )))
    }

    /// Makes a token for a caller who may. Its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// As `ClusterService.CreateToken`.
    pub async fn make_token(&self, caller: &Caller, ask: CreateToken) -> Result<CreatedToken, ApiError> {
        let member = self.member()?;
        let pin = self.see(|sight| pinned(&sight))?;
        let token = sheaf_seal::new_token(pin).map_err(|error| ApiError::Internal(error.to_string()))?;
        let now = self.clock.wall();
        let create = Create {
            id: token.id(),
            name: ask.name,
            of: ask.of,
            digest: sheaf_seal::digest_of(&token),
            expires_at: ask.ttl.map(|ttl| Timestamp(now.0.saturating_add(ttl.0))),
        };
        let command = Command::Access(AccessCommand::CreateToken(create));
        let revision = match self.propose(caller, None, command).await? {
            Reply::Done(revision) => revision,
            Reply::Refused(refusal) => return Err(refused(refusal)),
            other => return Err(ApiError::Internal(format!("an answer that fits no token: {other:?}"))),
        };
        let made = member.replica.state().access.tokens.get(&token.id()).map(|record| row(record, now));
        let row = made.ok_or_else(|| {
            ApiError::Precondition("the token was revoked in the moment it was made".to_owned())
        })?;
        Ok(CreatedToken { token, row, revision })
    }

    pub(crate) async fn page_of_tokens(
        &self,
        caller: &Caller,
        ask: ListTokens,
    ) -> Result<Page<TokenRow>, ApiError> {
        self.caught_up(caller).await?;
        let now = self.clock.wall();
        self.see_rows(|sight| {
            let mut rows: Vec<TokenRow> =
                sight.state.access.tokens.values().map(|token| row(token, now)).collect();
            rows.sort_by(|a, b| a.name.cmp(&b.name));
            let after = rows.into_iter().filter(|row| row.name > ask.page.token);
            let selected = after.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, selected, |row| row.name.clone())
        })
    }

    pub(crate) async fn forget_token(&self, caller: &Caller, ask: RevokeToken) -> Result<Done, ApiError> {
        let RevokeToken { token, request } = ask;
        let id = self.see_rows(|sight| {
            let access = &sight.state.access;
            let by_id = || TokenId::parse(&token).filter(|id| access.tokens.contains_key(id));
            let found = access.named(&token).map(|record| record.id).or_else(by_id);
            let asked_before = request.as_ref().is_some_and(|id| sight.state.request_ids.contains_key(id));
            // One that was asked before is answered as then, although nothing has that name any more.
            let gone = || TokenId::parse(&token).unwrap_or(TokenId([0; 6]));
            found.or_else(|| asked_before.then(gone))
        })?;
        let id = id.ok_or_else(|| {
            ApiError::NotFound(format!("there is no token {token}; sheaf cluster token list shows all"))
        })?;
        self.change(caller, request, Command::Access(AccessCommand::RevokeToken(id))).await
    }
}

/// What is said of whom nobody knows.
const UNKNOWN: &str = "this token is not known here: it was revoked, or is of another cluster";

/// Whether what is shown is what the cluster knows under its id.
///
/// # Errors
/// Why not, for people.
fn proves(member: &Member, shown: &Bearer, known: &TokenRecord, now: Timestamp) -> Result<(), String> {
    let unknown = || UNKNOWN.to_owned();
    match (shown, known.of.authority()) {
        (Bearer::Token(token), None) if sheaf_seal::is_secret_of(token, &known.digest) => Ok(()),
        (Bearer::Signed(signed), Some(_)) => certificate::proves(member, signed, known, now),
        (Bearer::Token(_) | Bearer::Signed(_) | Bearer::Signer(_), _) => Err(unknown()),
    }
}

fn admitted_by(token: &TokenRecord) -> Admitted {
    match &token.of {
        TokenUse::User(rights) | TokenUse::Certificate { rights, .. } => {
            Admitted::User { name: token.name.clone(), rights: rights.clone() }
        }
        TokenUse::Join { voter } => Admitted::Joining { may_vote: *voter, by: token.name.to_string() },
    }
}

/// The authority that tokens pin which are made now: the one that issues, once every node that is there shows it.
fn pinned(sight: &Sight<'_>) -> Option<Digest> {
    let access = &sight.state.access;
    let all_show_it = |sessions| lacking(sight.state, sessions).is_empty();
    let former = access.former().filter(|_| !sight.sessions.is_some_and(all_show_it));
    former.or(access.issuing()).map(|authority| authority.fingerprint)
}

fn has_expired(token: &TokenRecord, now: Timestamp) -> bool {
    token.expires_at.is_some_and(|at| at <= now)
}

fn expiry(token: &TokenRecord) -> String {
    token.expires_at.map(|at| at.to_string()).unwrap_or_default()
}

fn row(token: &TokenRecord, now: Timestamp) -> TokenRow {
    let prefix = token.of.rights().and_then(|rights| rights.prefix.as_ref()).map(ToString::to_string);
    TokenRow {
        name: token.name.to_string(),
        id: token.id.to_string(),
        role: token.of.as_str().to_owned(),
        prefix: prefix.unwrap_or_default(),
        created_at: token.created_at.to_string(),
        created_by: token.created_by.clone(),
        expires_at: token.expires_at.map(|at| at.to_string()),
        expired: has_expired(token, now),
        certificate: token.of.authority().is_some(),
    }
}

fn values(row: &TokenRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "role" => vec![row.role.clone()],
        "created_by" => vec![row.created_by.clone()],
        "expired" => vec![row.expired.to_string()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
