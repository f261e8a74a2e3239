//! Why there are no workers.

/// Why there are no workers.
#[derive(Debug, thiserror::Error)]
pub enum NoWorkers {
    /// None can load the predictor, or there is no room for a process. The text holds the reason and the remedy.
    #[error("{0}")]
    Refused(String),
    /// The cluster cannot be reached, is lost, or had no room in time. It may be otherwise later.
    #[error("{0}")]
    NoCluster(String),
}
