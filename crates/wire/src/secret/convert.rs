//! Questions and answers about secrets, to and from messages.

use sheaf_model::view::SecretRow;
use sheaf_model::{KeyId, Sealed, SecretError, SecretName, SecretValue};

use super::{DeleteSecret, ListSecrets, PutSecret, SetSecret};
use crate::change::{page_of, timestamp_of_text, timestamp_text};
use crate::proto::v1;
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "key"];

pub(crate) fn secret_name(text: &str) -> Result<SecretName, ApiError> {
    SecretName::new(text).map_err(|error| ApiError::invalid("name", error.problem, error.remedy))
}

fn wrong(error: SecretError) -> ApiError {
    ApiError::invalid("value", error.to_string(), error.remedy())
}

pub(super) fn set(message: v1::SetSecretRequest, caller: &Caller) -> Result<SetSecret, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let value = SecretValue::new(&message.value).map_err(wrong)?;
    Ok(SetSecret { name: secret_name(&message.name)?, value, request })
}

impl From<SetSecret> for v1::SetSecretRequest {
    fn from(ask: SetSecret) -> Self {
        Self {
            name: ask.name.to_string(),
            value: ask.value.reveal().to_vec().into(),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

/// A sealed value that a message holds.
pub(crate) fn sealed(message: Option<v1::SealedValue>) -> Result<Sealed, ApiError> {
    let message = message.ok_or_else(|| ApiError::invalid("sealed", "missing", "a SealedValue"))?;
    let sized = |path: &str, bytes: &[u8], wanted: usize| {
        ApiError::invalid(path, format!("{} bytes", bytes.len()), format!("{wanted} bytes"))
    };
    let key = <[u8; 8]>::try_from(&*message.key).map_err(|_| sized("sealed.key", &message.key, 8))?;
    let nonce =
        <[u8; 12]>::try_from(&*message.nonce).map_err(|_| sized("sealed.nonce", &message.nonce, 12))?;
    let sealed = Sealed { key: KeyId(key), nonce, ciphertext: message.ciphertext.as_ref().into() };
    sealed.check().map_err(wrong)?;
    Ok(sealed)
}

/// The same of an answer.
pub(crate) fn sealed_answered(message: Option<v1::SealedValue>) -> Result<Sealed, ApiError> {
    sealed(message).map_err(|error| ApiError::Internal(format!("the answer has no sealed value: {error}")))
}

impl From<Sealed> for v1::SealedValue {
    fn from(sealed: Sealed) -> Self {
        Self {
            key: sealed.key.0.to_vec().into(),
            nonce: sealed.nonce.to_vec().into(),
            ciphertext: sealed.ciphertext.as_bytes().to_vec().into(),
        }
    }
}

pub(super) fn put(message: v1::PutSecretRequest, caller: &Caller) -> Result<PutSecret, ApiError> {
    let request = caller.request_id(message.request_id)?;
    Ok(PutSecret { name: secret_name(&message.name)?, sealed: sealed(message.sealed)?, request })
}

impl From<PutSecret> for v1::PutSecretRequest {
    fn from(ask: PutSecret) -> Self {
        Self {
            name: ask.name.to_string(),
            sealed: Some(ask.sealed.into()),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

pub(super) fn list(message: v1::ListSecretsRequest) -> Result<ListSecrets, ApiError> {
    let page = page_of(message.page_size, message.page_token, PAGE_MAX)?;
    Ok(ListSecrets { page, filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)? })
}

impl From<ListSecrets> for v1::ListSecretsRequest {
    fn from(ask: ListSecrets) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<SecretRow>> for v1::ListSecretsResponse {
    fn from(page: Page<SecretRow>) -> Self {
        let row = |SecretRow { name, key, revision, at, actor }: SecretRow| v1::SecretRow {
            name,
            key,
            revision,
            at: timestamp_of_text(&at),
            actor,
        };
        Self { secrets: page.rows.into_iter().map(row).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListSecretsResponse> for Page<SecretRow> {
    fn from(page: v1::ListSecretsResponse) -> Self {
        let row = |v1::SecretRow { name, key, revision, at, actor }: v1::SecretRow| SecretRow {
            name,
            key,
            revision,
            at: at.as_ref().map(timestamp_text).unwrap_or_default(),
            actor,
        };
        Self { rows: page.secrets.into_iter().map(row).collect(), next: page.next_page_token }
    }
}

pub(super) fn delete(message: v1::DeleteSecretRequest, caller: &Caller) -> Result<DeleteSecret, ApiError> {
    let request = caller.request_id(message.request_id)?;
    Ok(DeleteSecret { name: secret_name(&message.name)?, request })
}

impl From<DeleteSecret> for v1::DeleteSecretRequest {
    fn from(ask: DeleteSecret) -> Self {
        Self { name: ask.name.to_string(), request_id: ask.request.map(|id| id.0).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sealed: v1::SealedValue) -> String {
        super::sealed(Some(sealed)).expect_err("a bad sealed value").to_string()
    }

    #[test]
    fn a_sealed_value_has_its_sizes_and_says_which_it_has_not() {
        let good = v1::SealedValue {
            key: vec![1; 8].into(),
            nonce: vec![2; 12].into(),
            ciphertext: vec![3; 17].into(),
        };
        assert_eq!(v1::SealedValue::from(sealed(Some(good.clone())).expect("a sealed value")), good);
        let short = refused(v1::SealedValue { key: vec![1; 7].into(), ..good.clone() });
        assert!(short.contains("sealed.key") && short.contains("7 bytes"), "{short}");
        let short = refused(v1::SealedValue { nonce: Vec::new().into(), ..good.clone() });
        assert!(short.contains("sealed.nonce"), "{short}");
        let empty = refused(v1::SealedValue { ciphertext: vec![3; 16].into(), ..good.clone() });
        assert!(empty.contains("the value is empty"), "{empty}");
        let long = refused(v1::SealedValue { ciphertext: vec![3; 65_553].into(), ..good });
        assert!(long.contains("65537 bytes; at most 65536"), "{long}");
        assert!(sealed(None).is_err());
    }
}
