//! Tokens and authorities. Neither a secret nor a digest of one is in what history tells.

use std::sync::Arc;

use sheaf_model::{
    AUTHORITIES_MAX, AuthorityRecord, AuthorityStage, CERTIFICATE_MAX, NodeId, TOKENS_MAX, TokenId,
    TokenRecord,
};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{AccessCommand, Admit, CreateToken, ExpireToken, PutAuthority, Refusal, Reply};

mod rotation;

impl Transaction<'_> {
    pub(super) fn run_of_access(&mut self, command: &AccessCommand) -> Result<Reply, Refusal> {
        match command {
            AccessCommand::CreateToken(create) => self.create_token(create),
            AccessCommand::RevokeToken(id) => self.revoke_token(*id),
            AccessCommand::ExpireToken(expire) => self.expire_token(expire),
            AccessCommand::PutAuthority(put) => self.put_authority(put),
            AccessCommand::DropAuthority(fingerprint) => self.drop_authority(fingerprint),
            AccessCommand::Admit(admit) => self.admit(admit),
            AccessCommand::BeginRotation(begin) => self.begin_rotation(begin),
            AccessCommand::IssueBy(issue) => self.issue_by(issue),
            AccessCommand::RetireAuthority(retire) => self.retire_authority(retire),
        }
    }

    fn create_token(&mut self, create: &CreateToken) -> Result<Reply, Refusal> {
        let CreateToken { id, name, of, digest, expires_at } = create;
        let access = &self.state.access;
        if access.named(name.as_str()).is_some() {
            return Err(Refusal::Conflict(format!(
                "there is a token {name} already; give this one another name, or revoke that one: sheaf cluster token revoke \
                 {name}"
            )));
        }
        if access.tokens.contains_key(id) {
            return Err(Refusal::Conflict(format!("there is a token with the id {id} already; try again")));
        }
        if access.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::Exhausted(format!(
                "there are {TOKENS_MAX} tokens already, which is the most; revoke those that nobody needs"
            )));
        }
        self.put(Change::Token(Arc::new(TokenRecord {
            id: *id,
            name: name.clone(),
            of: of.clone(),
            digest: *digest,
            created_at: self.proposal.at,
            created_by: self.proposal.actor.to_string(),
            expires_at: *expires_at,
            revision: self.revision,
        })));
        let until = expires_at.map_or_else(String::new, |at| format!(", until {at}"));
        let line = Line::new("token.created", name).went("", of);
        self.event(line.because(format!("{of} with id {id}{until}")));
        Ok(Reply::Done(self.revision))
    }

    fn revoke_token(&mut self, id: TokenId) -> Result<Reply, Refusal> {
        let Some(token) = self.state.access.tokens.get(&id).cloned() else {
            return Err(Refusal::NotFound("token".to_owned(), id.to_string()));
        };
        self.put(Change::TokenGone(id));
        self.event(Line::new("token.revoked", &token.name).went(&token.of, "").because(format!("id {id}")));
        Ok(Reply::Done(self.revision))
    }

    fn expire_token(&mut self, expire: &ExpireToken) -> Result<Reply, Refusal> {
        self.in_term(expire.term)?;
        let known = self.state.access.tokens.get(&expire.id).cloned();
        let Some(token) = known.filter(|token| token.expires_at == Some(expire.expires_at)) else {
            return Err(Refusal::Stale(format!("token {} does not expire then", expire.id)));
        };
        self.put(Change::TokenGone(token.id));
        let line = Line::new("token.expired", &token.name).went(&token.of, "");
        self.event(line.because(format!("id {}, at {}", token.id, expire.expires_at)));
        Ok(Reply::Done(self.revision))
    }

    fn put_authority(&mut self, put: &PutAuthority) -> Result<Reply, Refusal> {
        let PutAuthority { fingerprint, certificate } = put;
        if let Some(known) = self.state.access.authority(fingerprint) {
            return Ok(Reply::Unchanged(known.revision));
        }
        self.authority_fits(certificate.len())?;
        self.put(Change::Authority(Arc::new(AuthorityRecord {
            fingerprint: *fingerprint,
            certificate: certificate.clone(),
            revision: self.revision,
            added_at: self.proposal.at,
            stage: AuthorityStage::Issues,
            bridge: None,
        })));
        self.event(Line::new("authority.added", fingerprint));
        Ok(Reply::Done(self.revision))
    }

    /// Whether one more authority has room, whose certificate has so many bytes.
    fn authority_fits(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > CERTIFICATE_MAX {
            return Err(Refusal::Exhausted(format!(
                "a certificate of {bytes} bytes; at most {CERTIFICATE_MAX} are kept"
            )));
        }
        if self.state.access.authorities.len() >= AUTHORITIES_MAX {
            return Err(Refusal::Exhausted(format!(
                "there are {AUTHORITIES_MAX} authorities already, which is the most; drop those that issue no more"
            )));
        }
        Ok(())
    }

    fn admit(&mut self, admit: &Admit) -> Result<Reply, Refusal> {
        let reply = self.register(&admit.register)?;
        if let Reply::Registered(id) = reply {
            self.allow_vote(id, admit.may_vote);
        }
        Ok(reply)
    }

    fn allow_vote(&mut self, id: NodeId, may_vote: bool) {
        let Some(node) = self.state.nodes.get(&id).filter(|node| node.may_vote != may_vote).cloned() else {
            return;
        };
        let said = |may_vote| if may_vote { "voter" } else { "agent" };
        let line = Line::new("node.role", &node.facts.name).node(id);
        let line = line.went(said(node.may_vote), said(may_vote));
        self.put(Change::Node(sheaf_model::Node { may_vote, revision: self.revision, ..node }));
        self.event(line);
    }
}

#[cfg(test)]
mod tests;
