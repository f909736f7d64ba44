//! Questions and answers about tokens, to and from messages.

use sheaf_model::view::TokenRow;
use sheaf_model::{
    ClusterId, NameError, Prefix, RequestId, Revision, Rights, Role, Span, TokenName, TokenText, TokenUse,
};

use crate::change::{page_of, timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page, PageOf};

const KEYS: &[&str] = &["name", "role", "created_by", "expired"];
/// The shortest life of a token: a shorter one is no use to anybody.
const TTL_MIN: Span = Span::seconds(1);
/// The longest, a hundred years: beyond, it was miscounted.
const TTL_MAX: Span = Span::seconds(100 * 366 * 24 * 3600);

/// See `ClusterService.CreateToken`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateToken {
    /// What people call it, and who acts by it.
    pub name: TokenName,
    /// What it is for.
    pub of: TokenUse,
    /// For so long it is valid; none: until it is revoked.
    pub ttl: Option<Span>,
}

/// A token that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedToken {
    /// The token itself.
    pub token: TokenText,
    /// What is known of it from now on.
    pub row: TokenRow,
    /// The revision of the change.
    pub revision: Revision,
}

/// See `ClusterService.CreateCertificate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateCertificate {
    /// What people call it, and who acts by it.
    pub name: TokenName,
    /// What its holder may do.
    pub rights: Rights,
    /// For so long it is valid; none: ten years.
    pub ttl: Option<Span>,
    /// An uncompressed point of P-256.
    pub public_key: Vec<u8>,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedCertificate {
    /// In DER.
    pub certificate: Vec<u8>,
    /// Whom the cluster's nodes are believed by, in DER.
    pub authority: Vec<u8>,
    /// The cluster.
    pub cluster: ClusterId,
    /// What is known of it from now on.
    pub row: TokenRow,
    /// The revision of the change.
    pub revision: Revision,
}

/// See `ClusterService.ListTokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListTokens {
    /// Which part.
    pub page: PageOf,
    /// Which tokens.
    pub filter: Filter,
}

/// See `ClusterService.RevokeToken`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeToken {
    /// By name or id.
    pub token: String,
    /// The same id again is answered as the first time.
    pub request: Option<RequestId>,
}

fn wrong(path: &'static str) -> impl Fn(NameError) -> ApiError {
    move |NameError { problem, remedy }| ApiError::invalid(path, problem, remedy)
}

fn prefix(text: &str) -> Result<Option<Prefix>, ApiError> {
    match text {
        "" => Ok(None),
        prefix => Prefix::new(prefix).map(Some).map_err(wrong("prefix")),
    }
}

fn ttl(milliseconds: u64) -> Result<Option<Span>, ApiError> {
    match Span(milliseconds) {
        Span(0) => Ok(None),
        ttl if ttl < TTL_MIN || ttl > TTL_MAX => {
            Err(ApiError::invalid("ttl_ms", ttl.to_string(), "1s to 100 years, or none"))
        }
        ttl => Ok(Some(ttl)),
    }
}

pub(super) fn certify(message: v1::CreateCertificateRequest) -> Result<CreateCertificate, ApiError> {
    let name = TokenName::new(&message.name).map_err(wrong("name"))?;
    let role = Role::parse(&message.role).ok_or_else(|| {
        ApiError::invalid("role", format!("{:?} is no role", message.role), "viewer, operator or admin")
    })?;
    let rights = Rights::new(role, prefix(&message.prefix)?).map_err(wrong("prefix"))?;
    Ok(CreateCertificate { name, rights, ttl: ttl(message.ttl_ms)?, public_key: message.public_key.into() })
}

impl From<CreateCertificate> for v1::CreateCertificateRequest {
    fn from(ask: CreateCertificate) -> Self {
        Self {
            name: ask.name.to_string(),
            role: ask.rights.role.to_string(),
            prefix: ask.rights.prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            ttl_ms: ask.ttl.map_or(0, |ttl| ttl.0),
            public_key: ask.public_key.into(),
        }
    }
}

impl From<CreatedCertificate> for v1::CreateCertificateResponse {
    fn from(created: CreatedCertificate) -> Self {
        Self {
            certificate: created.certificate.into(),
            authority: created.authority.into(),
            cluster: created.cluster.0,
            row: Some(created.row.into()),
            revision: created.revision.0,
        }
    }
}

impl TryFrom<v1::CreateCertificateResponse> for CreatedCertificate {
    type Error = ApiError;

    fn try_from(answer: v1::CreateCertificateResponse) -> Result<Self, ApiError> {
        let unreadable = || ApiError::Internal("an answer without what was made".to_owned());
        Ok(Self {
            certificate: answer.certificate.into(),
            authority: answer.authority.into(),
            cluster: ClusterId(answer.cluster),
            row: answer.row.ok_or_else(unreadable)?.into(),
            revision: Revision(answer.revision),
        })
    }
}

pub(super) fn create(message: &v1::CreateTokenRequest) -> Result<CreateToken, ApiError> {
    let name = TokenName::new(&message.name).map_err(wrong("name"))?;
    let prefix = prefix(&message.prefix)?;
    let of = match (message.role.as_str(), Role::parse(&message.role)) {
        (_, Some(role)) => TokenUse::User(Rights::new(role, prefix).map_err(wrong("prefix"))?),
        ("agent" | "voter", None) if prefix.is_some() => {
            let problem = format!("role {} on {}", message.role, message.prefix);
            return Err(ApiError::invalid("prefix", problem, "role operator, or no prefix"));
        }
        ("agent", None) => TokenUse::Join { voter: false },
        ("voter", None) => TokenUse::Join { voter: true },
        (other, None) => {
            let remedy = "viewer, operator or admin; agent or voter for nodes that join with it";
            return Err(ApiError::invalid("role", format!("{other:?} is no role"), remedy));
        }
    };
    Ok(CreateToken { name, of, ttl: ttl(message.ttl_ms)? })
}

impl From<CreateToken> for v1::CreateTokenRequest {
    fn from(ask: CreateToken) -> Self {
        let prefix = match &ask.of {
            TokenUse::User(Rights { prefix: Some(prefix), .. }) => prefix.to_string(),
            _ => String::new(),
        };
        let ttl_ms = ask.ttl.map_or(0, |ttl| ttl.0);
        Self { name: ask.name.to_string(), role: ask.of.as_str().to_owned(), prefix, ttl_ms }
    }
}

impl From<CreatedToken> for v1::CreateTokenResponse {
    fn from(created: CreatedToken) -> Self {
        Self { token: created.token.reveal(), row: Some(created.row.into()), revision: created.revision.0 }
    }
}

impl TryFrom<v1::CreateTokenResponse> for CreatedToken {
    type Error = ApiError;

    fn try_from(answer: v1::CreateTokenResponse) -> Result<Self, ApiError> {
        let unreadable = || ApiError::Internal("an answer without a token".to_owned());
        Ok(Self {
            token: TokenText::parse(&answer.token).map_err(|_| unreadable())?,
            row: answer.row.ok_or_else(unreadable)?.into(),
            revision: Revision(answer.revision),
        })
    }
}

impl From<TokenRow> for v1::TokenRow {
    fn from(row: TokenRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            role: row.role,
            prefix: row.prefix,
            created_at: timestamp_of_text(&row.created_at),
            created_by: row.created_by,
            expires_at: row.expires_at.as_deref().and_then(timestamp_of_text),
            expired: row.expired,
            certificate: row.certificate,
        }
    }
}

impl From<v1::TokenRow> for TokenRow {
    fn from(row: v1::TokenRow) -> Self {
        Self {
            name: row.name,
            id: row.id,
            role: row.role,
            prefix: row.prefix,
            created_at: row.created_at.as_ref().map(timestamp_text).unwrap_or_default(),
            created_by: row.created_by,
            expires_at: row.expires_at.as_ref().map(timestamp_text),
            expired: row.expired,
            certificate: row.certificate,
        }
    }
}

pub(super) fn list(message: v1::ListTokensRequest) -> Result<ListTokens, ApiError> {
    let page = page_of(message.page_size, message.page_token, PAGE_MAX)?;
    Ok(ListTokens { page, filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)? })
}

impl From<ListTokens> for v1::ListTokensRequest {
    fn from(ask: ListTokens) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<TokenRow>> for v1::ListTokensResponse {
    fn from(page: Page<TokenRow>) -> Self {
        Self { tokens: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListTokensResponse> for Page<TokenRow> {
    fn from(page: v1::ListTokensResponse) -> Self {
        Self { rows: page.tokens.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

pub(super) fn revoke(message: v1::RevokeTokenRequest, caller: &Caller) -> Result<RevokeToken, ApiError> {
    let request = caller.request_id(message.request_id)?;
    if message.token.is_empty() {
        return Err(ApiError::invalid("token", "missing", "the name or the id of a token"));
    }
    Ok(RevokeToken { token: message.token, request })
}

impl From<RevokeToken> for v1::RevokeTokenRequest {
    fn from(ask: RevokeToken) -> Self {
        Self { token: ask.token, request_id: ask.request.map(|id| id.0).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(role: &str, prefix: &str, ttl_ms: u64) -> Result<CreateToken, ApiError> {
        let (name, role, prefix) = ("alice".to_owned(), role.to_owned(), prefix.to_owned());
        create(&v1::CreateTokenRequest { name, role, prefix, ttl_ms })
    }

    #[test]
    fn what_is_asked_survives_the_way() {
        for (role, prefix) in [
            ("viewer", ""),
            ("operator", ""),
            ("operator", "/team-a/"),
            ("admin", ""),
            ("agent", ""),
            ("voter", ""),
        ] {
            let ask = asked(role, prefix, 3_600_000).unwrap();
            assert_eq!(create(&v1::CreateTokenRequest::from(ask.clone())), Ok(ask), "{role}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_field() {
        let cases = [
            (asked("root", "", 0), "role"),
            (asked("", "", 0), "role"),
            (asked("viewer", "/team-a/", 0), "prefix"),
            (asked("agent", "/team-a/", 0), "prefix"),
            (asked("operator", "/team-a", 0), "prefix"),
            (asked("operator", "/team-a/../team-b/", 0), "prefix"),
            (asked("viewer", "", 1), "ttl_ms"),
            (asked("viewer", "", u64::MAX), "ttl_ms"),
        ];
        for (asked, field) in cases {
            assert!(
                matches!(&asked, Err(ApiError::Invalid(defects)) if defects[0].path == field),
                "{asked:?}"
            );
        }
    }

    #[test]
    fn a_certificate_is_asked_for_and_given() {
        let ask = |role: &str, prefix: &str| {
            certify(v1::CreateCertificateRequest {
                name: "vera".to_owned(),
                role: role.to_owned(),
                prefix: prefix.to_owned(),
                ttl_ms: 3_600_000,
                public_key: vec![4; 65].into(),
            })
        };
        for (role, prefix) in [("viewer", ""), ("operator", "/team-a/"), ("admin", "")] {
            let asked = ask(role, prefix).unwrap();
            assert_eq!(certify(asked.clone().into()), Ok(asked));
        }
        for (role, prefix, field) in [("agent", "", "role"), ("viewer", "/team-a/", "prefix")] {
            let error = ask(role, prefix);
            assert!(
                matches!(&error, Err(ApiError::Invalid(defects)) if defects[0].path == field),
                "{error:?}"
            );
        }
        let row = TokenRow { certificate: true, ..v1::TokenRow::default().into() };
        let (cluster, revision) = (ClusterId::from("c"), Revision(7));
        let created = CreatedCertificate { certificate: vec![1], authority: vec![2], cluster, row, revision };
        let answer = v1::CreateCertificateResponse::from(created.clone());
        assert_eq!(CreatedCertificate::try_from(answer), Ok(created));
    }

    #[test]
    fn no_message_prints_a_token() {
        let token = TokenText::new(sheaf_model::TokenId([1; 6]), [0xcd; 32], None);
        let row = v1::TokenRow::default().into();
        let created = CreatedToken { token, row, revision: Revision(7) };
        assert!(!format!("{created:?}").contains("cdcd"));
        let options = crate::Options { token: Some(created.token.into()), ..crate::Options::default() };
        assert!(!format!("{options:?}").contains("cdcd"));
    }
}
