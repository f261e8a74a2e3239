//! Workers of a cluster: as many as it holds. The first that is ready begins, and the others join.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pool::{Pool, State};
use super::ray::Relay;
use super::refusal::NoWorkers;
use super::watching::PARTING;
use crate::error::BridgeError;

impl Pool {
    /// Starts workers at all places, or at as many as there is room for and at more of them when the cluster grows, until
    /// one is ready. Those that are not yet go on.
    ///
    /// # Errors
    ///
    /// Fails if none can be ready, with the reason that the first gave, or if the cluster is lost before.
    pub(super) async fn fill(
        self: &Arc<Self>,
        relay: &Arc<Relay>,
        at_all: bool,
        keepers: &mut JoinSet<()>,
    ) -> Result<(), NoWorkers> {
        keepers.spawn(Arc::clone(self).keep(None, None));
        keepers.spawn(Arc::clone(self).grow(Arc::clone(relay), at_all));
        let is_lost = |reason: String| {
            Err(NoWorkers::NoCluster(format!(
                "the Ray cluster was lost before the first call: {reason}\nhint: once it is back, the same command goes on"
            )))
        };
        tokio::select! {
            biased;
            reason = relay.lost() => is_lost(reason),
            ready = self.wait_for(|| self.least_loaded()) => match ready {
                Some(_) => {
                    let pool = Arc::downgrade(self);
                    relay.warn_by(Box::new(move |text| { let _ = pool.upgrade().map(|pool| pool.warn(text)); }));
                    Ok(())
                }
                // Actors may be known to be dead a moment before the cluster is known to be lost.
                None => match timeout(PARTING, relay.lost()).await {
                    Ok(reason) => is_lost(reason),
                    Err(_) => Err(NoWorkers::Refused(self.unready.get().cloned().unwrap_or_default())),
                },
            },
        }
    }

    /// Keeps the places that are used filled, until the bridge is closed or the cluster is lost.
    async fn grow(self: Arc<Self>, relay: Arc<Relay>, at_all: bool) {
        let mut keepers = JoinSet::new();
        let mut capacity = relay.capacity();
        let mut filled = 0;
        loop {
            let room = *capacity.borrow_and_update();
            self.has_room_for(room);
            let wanted = if at_all { self.most() } else { room.clamp(1, self.most()) };
            if wanted > filled {
                self.use_only(wanted);
                for index in filled..wanted {
                    keepers.spawn(Arc::clone(&self).keep(Some(index), None));
                }
                filled = wanted;
            }
            tokio::select! {
                changed = capacity.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                reason = relay.lost() => {
                    self.warn(format!("the Ray cluster is lost: {reason}"));
                    self.end(State::Failed(BridgeError::ClusterLost));
                    break;
                }
                _ = self.closing() => break,
            }
        }
        // Once the relay has ended, nobody tells of the actors that are left.
        let mut is_gone = false;
        loop {
            tokio::select! {
                ended = keepers.join_next() => if ended.is_none() { break },
                _ = relay.lost(), if !is_gone => {
                    relay.give_up();
                    is_gone = true;
                }
            }
        }
    }
}
