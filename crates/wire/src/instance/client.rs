//! The client side of `sheaf.v1.InstanceService`.

use sheaf_model::{BucketName, Sealed};
use tonic::transport::Channel;

use super::{
    AddStatusLine, DeleteObject, DisableBucket, GetObject, GetSecret, GotObject, ListObjects, ObjectHead,
    ObjectStep, PeerNode, PutObject, QuarantineBucket, WatchObjects,
};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::instance_service_client::InstanceServiceClient;
use crate::secret::sealed_answered;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Asking, Client, Done, Page, call};

impl Client {
    fn instances(&self) -> InstanceServiceClient<Channel> {
        InstanceServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// An object with its value.
    pub fn get_object(&self, ask: GetObject) -> Asking<'_, GotObject> {
        Box::pin(async move {
            let request = self.request(v1::GetObjectRequest::from(ask));
            self.unary(request, async |request| self.instances().get_object(request).await).await?.try_into()
        })
    }

    /// A page of objects by key.
    pub fn list_objects(&self, ask: ListObjects) -> Asking<'_, Page<ObjectHead>> {
        Box::pin(async move {
            let request = self.request(v1::ListObjectsRequest::from(ask));
            self.unary(request, async |request| self.instances().list_objects(request).await)
                .await?
                .try_into()
        })
    }

    /// Every object, then what changes.
    pub fn watch_objects(&self, ask: WatchObjects) -> Asking<'_, Answers<ObjectStep>> {
        Box::pin(async move {
            let request = self.request(v1::WatchObjectsRequest::from(ask));
            let steps = self.stream(request, async |request| self.instances().watch_objects(request).await);
            Ok(call::incoming(self.address(), steps.await?, TryInto::try_into))
        })
    }

    /// Writes an object.
    pub fn put_object(&self, ask: PutObject) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::PutObjectRequest::from(ask), None);
            Ok(self.unary(request, async |request| self.instances().put_object(request).await).await?.into())
        })
    }

    /// Deletes an object.
    pub fn delete_object(&self, ask: DeleteObject) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::DeleteObjectRequest::from(ask), None);
            Ok(self
                .unary(request, async |request| self.instances().delete_object(request).await)
                .await?
                .into())
        })
    }

    /// Adds a line to a bucket's history.
    pub fn add_status_line(&self, ask: AddStatusLine) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::AddStatusLineRequest::from(ask), id.as_ref());
            let answer = self.unary(request, async |request| self.instances().add_status_line(request).await);
            Ok(answer.await?.into())
        })
    }

    /// Has a bucket suspended.
    pub fn disable_bucket(&self, ask: DisableBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::DisableRequest::from(ask), None);
            Ok(self.unary(request, async |request| self.instances().disable(request).await).await?.into())
        })
    }

    /// Has a bucket stopped for a time.
    pub fn quarantine_bucket(&self, ask: QuarantineBucket) -> Asking<'_, Done> {
        Box::pin(async move {
            let request = self.change(v1::QuarantineRequest::from(ask), None);
            Ok(self.unary(request, async |request| self.instances().quarantine(request).await).await?.into())
        })
    }

    /// The nodes that run a bucket.
    pub fn peers_of<'a>(&'a self, bucket: &'a BucketName) -> Asking<'a, Vec<PeerNode>> {
        Box::pin(async move {
            let request = self.request(v1::ListPeersRequest { bucket: bucket.to_string() });
            Ok(self.unary(request, async |request| self.instances().list_peers(request).await).await?.into())
        })
    }

    /// A secret that a bucket's module names, sealed.
    pub fn secret_for(&self, ask: GetSecret) -> Asking<'_, Sealed> {
        Box::pin(async move {
            let request = self.request(v1::GetSecretRequest::from(ask));
            let answer = self.unary(request, async |request| self.instances().get_secret(request).await);
            sealed_answered(answer.await?.sealed)
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::answer::<v1::Object, GotObject>(),
        Probe::answer::<v1::ListObjectsResponse, Page<ObjectHead>>(),
        Probe::answer::<v1::ObjectChange, ObjectStep>(),
        Probe::plain::<v1::ListPeersResponse, Vec<PeerNode>>(),
        Probe::answered(|answer: v1::GetSecretResponse| sealed_answered(answer.sealed)),
    ]
}
