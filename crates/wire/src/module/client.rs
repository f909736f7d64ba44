//! The client side of `sheaf.v1.ModuleService`.

use sheaf_model::view::ModuleRow;
use sheaf_model::{Artifact, ModuleRef};
use tonic::transport::Channel;

use super::{ApplyModule, DeleteModule, FinishPush, GotModule, ListModules, PushPiece, PushState};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::module_service_client::ModuleServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Applied, Asking, Client, Done, Page};

impl Client {
    fn modules(&self) -> ModuleServiceClient<Channel> {
        ModuleServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Registers a module's version.
    pub fn apply_module(&self, ask: ApplyModule) -> Asking<'_, Applied> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ApplyModuleRequest::from(ask), id.as_ref());
            self.unary(request, async |request| self.modules().apply(request).await).await?.try_into()
        })
    }

    /// One version of a module, or the newest.
    pub fn module<'a>(&'a self, module: &'a ModuleRef) -> Asking<'a, GotModule> {
        Box::pin(async move {
            let request = self.request(v1::GetModuleRequest::from(module));
            self.unary(request, async |request| self.modules().get(request).await).await?.try_into()
        })
    }

    /// A page of modules, by name, newest version first.
    pub fn list_modules(&self, ask: ListModules) -> Asking<'_, Page<ModuleRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListModulesRequest::from(ask));
            Ok(self.unary(request, async |request| self.modules().list(request).await).await?.into())
        })
    }

    /// Deletes a module's version.
    pub fn delete_module(&self, ask: DeleteModule) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DeleteModuleRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.modules().delete(request).await).await?.into())
        })
    }

    /// Begins to push an artifact, or goes on with it.
    pub fn begin_push<'a>(&'a self, artifact: &'a Artifact) -> Asking<'a, PushState> {
        Box::pin(async move {
            let request = self.request(v1::BeginPushRequest { artifact: Some(artifact.into()) });
            Ok(self.unary(request, async |request| self.modules().begin_push(request).await).await?.into())
        })
    }

    /// Sends the next piece.
    pub fn push_piece(&self, ask: PushPiece) -> Asking<'_, PushState> {
        Box::pin(async move {
            let request = self.request(v1::PushPieceRequest::from(ask));
            Ok(self.unary(request, async |request| self.modules().push_piece(request).await).await?.into())
        })
    }

    /// Has what was sent copied to the voters and registered; may take as long as copying takes.
    pub fn finish_push(&self, ask: FinishPush) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::FinishPushRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.modules().finish_push(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::answered(|got: v1::GetModuleResponse| GotModule::try_from(got).map(|got| got.json())),
        Probe::plain::<v1::ListModulesResponse, Page<ModuleRow>>(),
        Probe::plain::<v1::PushResponse, PushState>(),
    ]
}
