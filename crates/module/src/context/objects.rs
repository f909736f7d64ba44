//! Objects and the checkpoint.

use super::{Client, Context, ContextError, ObjectWatch, token};
use crate::proto::{
    DeleteObjectRequest, GetCheckpointRequest, GetObjectRequest, ListObjectsRequest, PutObjectRequest,
    SetCheckpointRequest,
};
use crate::{Object, ObjectHead, ObjectPage, Why};

impl Context {
    /// An object of the bucket; none: there is no such object. At least as new as whatever this process has written, and
    /// whatever the ones before it had; of a multi-node bucket, whatever any has.
    ///
    /// # Errors
    /// [`Why::Invalid`] if it is no key: 1 to 256 bytes of visible ASCII, not beginning with `.`.
    pub async fn get(&self, key: impl Into<String> + Send) -> Result<Option<Object>, ContextError> {
        let request = GetObjectRequest { key: key.into() };
        let got = self.ask("GetObject", |mut client: Client| {
            let request = request.clone();
            async move { client.get_object(request).await }
        });
        match got.await {
            Ok(object) => Ok(Some(Object { version: object.version, value: object.value })),
            Err(error) if error.why() == Some(Why::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object, whatever it was, and returns its new version.
    ///
    /// # Errors
    /// [`Why::Fenced`] if this process does not run the bucket any more, [`Why::Exhausted`] if it is too much.
    pub async fn put(
        &self,
        key: impl Into<String> + Send,
        value: impl Into<Vec<u8>> + Send,
    ) -> Result<u64, ContextError> {
        self.write(key.into(), value.into(), None).await
    }

    /// Writes an object if it is at the version expected, 0: if there is none, and returns its new version.
    ///
    /// # Errors
    /// As [`Context::put`], and [`Why::Conflict`] if it is at another version.
    pub async fn compare_and_set(
        &self,
        key: impl Into<String> + Send,
        expected: u64,
        value: impl Into<Vec<u8>> + Send,
    ) -> Result<u64, ContextError> {
        self.write(key.into(), value.into(), Some(expected)).await
    }

    async fn write(
        &self,
        key: String,
        value: Vec<u8>,
        expected_version: Option<u64>,
    ) -> Result<u64, ContextError> {
        let request = PutObjectRequest { key, value, expected_version, token: token() };
        let put = self.ask("PutObject", |mut client: Client| {
            let request = request.clone();
            async move { client.put_object(request).await }
        });
        Ok(put.await?.version)
    }

    /// Deletes an object; one that is gone already is gone.
    ///
    /// # Errors
    /// As [`Context::put`].
    pub async fn delete(&self, key: impl Into<String> + Send) -> Result<(), ContextError> {
        let request = DeleteObjectRequest { key: key.into(), expected_version: None };
        let deleted = self.ask("DeleteObject", |mut client: Client| {
            let request = request.clone();
            async move { client.delete_object(request).await }
        });
        deleted.await.map(drop)
    }

    /// All objects whose keys begin with `prefix`, by key, without their values.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn list(&self, prefix: impl Into<String> + Send) -> Result<Vec<ObjectHead>, ContextError> {
        let mut request = ListObjectsRequest { prefix: prefix.into(), ..ListObjectsRequest::default() };
        let mut all = Vec::new();
        loop {
            let page = self.ask("ListObjects", |mut client: Client| {
                let request = request.clone();
                async move { client.list_objects(request).await }
            });
            let page = ObjectPage::from(page.await?);
            all.extend(page.objects);
            if page.next.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next;
        }
    }

    /// The objects whose keys begin with `prefix` as they are, then what changes.
    pub fn watch(&self, prefix: impl Into<String>) -> ObjectWatch {
        ObjectWatch::new(self.clone(), prefix.into())
    }

    /// How far the bucket's work came, as it was last set by this process or one before it, on any node; none: it never
    /// was. Of a multi-node bucket each node has its own, also from when the bucket ran there alone.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn checkpoint(&self) -> Result<Option<Vec<u8>>, ContextError> {
        let got = self.ask("GetCheckpoint", |mut client: Client| async move {
            client.get_checkpoint(GetCheckpointRequest {}).await
        });
        Ok(Some(got.await?.checkpoint).filter(|checkpoint| !checkpoint.is_empty()))
    }

    /// Notes how far the bucket's work came. Once this has returned, the next process finds it, on whichever node.
    ///
    /// # Errors
    /// As [`Context::put`].
    pub async fn set_checkpoint(&self, checkpoint: impl Into<Vec<u8>> + Send) -> Result<(), ContextError> {
        let request = SetCheckpointRequest { checkpoint: checkpoint.into() };
        let set = self.ask("SetCheckpoint", |mut client: Client| {
            let request = request.clone();
            async move { client.set_checkpoint(request).await }
        });
        set.await.map(drop)
    }
}
