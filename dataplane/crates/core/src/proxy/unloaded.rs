//! A call for a model that is not loaded: where a call may load it, it waits for that within its deadline.

use std::sync::Arc;

use super::call::Call;
use super::clock::Clock;
use super::cluster::{Cluster, Lease, Share};
use super::failure::Failure;
use super::method::{Kind, Lists};
use super::not_loaded::not_loaded;
use crate::config::UnloadedConfig;
use crate::error::{Error, ErrorKind};

// === impl Call ===

impl Call {
    /// Whether the call is a reason to load a model: questions whether it is ready are none, as probes ask them all the
    /// time.
    pub fn is_use(&self) -> bool {
        let method = self.method;
        match method.kind {
            Kind::Predict => true,
            Kind::Metadata => {
                let asks_state = ["/ModelReady", "/ModelStatistics"];
                method.lists != Some(Lists::Status)
                    && !asks_state.iter().any(|name| method.path.ends_with(name))
            }
            Kind::Local | Kind::Admin => false,
        }
    }

    /// The endpoint of a call whose model is not loaded, once it is.
    pub async fn pick_unloaded(
        &mut self,
        share: &Share,
        unloaded: &UnloadedConfig,
        clock: &mut Clock<'_>,
    ) -> Result<Lease, Error> {
        if !unloaded.on_demand || !self.is_use() {
            return Err(not_loaded(unloaded));
        }
        let (cluster, shared) = (&share.cluster, self.worker.shared.clone());
        shared.orders.want(&unloaded.model);
        let begin = tokio::time::Instant::now();
        let loaded = std::pin::pin!(cluster.wait_loaded(unloaded.refusals));
        let waited = clock
            .limit(loaded, &mut self.responder, |cx| self.inbound.wait(cx))
            .await;
        shared.server.stats.cold_waits.record(begin.elapsed());
        match waited {
            Ok(Ok(())) => self.pick_loaded(share),
            Ok(Err(error)) | Err(Failure::Caller(error)) => Err(error),
            Err(_) => {
                let text = format!(
                    "model {} is loading, which takes longer than the call has time; it goes on for the next one: try \
                     again, or raise the call's deadline and timeout_ms",
                    unloaded.model
                );
                Err(Error::new(ErrorKind::DeadlineExceeded, text))
            }
        }
    }

    fn pick_loaded(&mut self, share: &Share) -> Result<Lease, Error> {
        let cluster: &Arc<Cluster> = &share.cluster;
        let picked = cluster.pick(&[], &self.need(share));
        self.picked(cluster, picked)
    }
}
