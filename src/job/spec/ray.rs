//! The group about a Ray cluster.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::group::group;
use super::words::Words;

group! {
    /// A Ray cluster.
    [next_help_heading = "Ray"] RaySpec RayPatch {
        /// Make the calls in actors on a Ray cluster: `auto`, or no ADDRESS, is the one that this machine belongs to,
        /// `local` starts one on this machine, `HOST:PORT` is the head of one, and `none` turns it off. `-c`, `--rpm`
        /// and budgets hold for all actors together (not with `--workers`)
        [value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "auto", env = "TAB_RAY"]
        ray: RayAddress as (RayAddress) = RayAddress::None,
        /// The number of actors, all asked for at once, so that a cluster can grow for them [default: as many as the cluster has room for, also on nodes that come later, but no
        /// more than `-c`]
        [value_name = "N", env = "TAB_RAY_ACTORS"]
        ray_actors: Option<NonZeroU32> as (NonZeroU32) = None,
        /// The CPUs that Ray sets aside for an actor [default: 1]
        [value_name = "N", value_parser = share, env = "TAB_RAY_CPUS"]
        ray_cpus: Option<f64> as (f64) = None,
        /// The GPUs that Ray sets aside for an actor [default: 0]
        [value_name = "N", value_parser = share, env = "TAB_RAY_GPUS"]
        ray_gpus: Option<f64> as (f64) = None,
        /// An amount of a resource of your own that Ray sets aside for an actor (repeatable)
        [value_name = "NAME=AMOUNT", value_parser = resource, env = "TAB_RAY_RESOURCES"]
        ray_resources: Vec<(String, f64)> as (Vec<(String, f64)>) = Vec::new(),
        /// A runtime environment of Ray's own format, in YAML or JSON; its fields replace those that this program would
        /// set, so with a `working_dir` no other files are sent
        [value_name = "FILE", env = "TAB_RAY_RUNTIME_ENV"]
        ray_runtime_env: Option<PathBuf> as (PathBuf) = None,
        /// Set this variable in the actors too, to the value that it has here; the value is masked in all that is shown
        /// (one of fewer than six characters only as `NAME=value`), and Ray neither stores nor shows it (repeatable)
        [value_name = "NAME", value_parser = variable, value_delimiter = ',', env = "TAB_RAY_ENV"]
        ray_env: Vec<String> as (Vec<String>) = Vec::new(),
    }
}

impl RaySpec {
    /// Makes the path of the runtime environment absolute: that of a file in `directory`.
    pub(super) fn anchor(&mut self, directory: &Path) {
        anchor(self.ray_runtime_env.as_mut(), directory);
    }
}

impl RayPatch {
    /// As [`RaySpec::anchor`].
    pub(super) fn resolve(&mut self, given_in: &Path) {
        anchor(self.ray_runtime_env.as_mut(), given_in);
    }
}

fn anchor(file: Option<&mut PathBuf>, directory: &Path) {
    if let Some(file) = file {
        *file = directory.join(&*file).components().collect();
    }
}

/// Which Ray cluster makes the calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RayAddress {
    /// None: the calls are made on this machine.
    None,
    /// The cluster that this machine belongs to, or that `$RAY_ADDRESS` names.
    Auto,
    /// One that is started on this machine, and ends with the job.
    Local,
    /// The one whose head has this `HOST:PORT`.
    At(String),
}

impl FromStr for RayAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_address = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        match text {
            "none" | "false" => Ok(Self::None),
            "auto" | "true" => Ok(Self::Auto),
            "local" => Ok(Self::Local),
            _ if text.starts_with("ray://") => {
                Err("a Ray Client cannot host the run\nhint: start the program on the \
                 cluster, with `ray job submit -- tokio-asyncio-bridge process … --ray`"
                    .to_owned())
            }
            _ if text.rsplit_once(':').is_some_and(is_address) => Ok(Self::At(text.to_owned())),
            _ => Err("expected `auto`, `local`, `none` or the `HOST:PORT` of a cluster's head".to_owned()),
        }
    }
}

impl TryFrom<String> for RayAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RayAddress> for String {
    fn from(address: RayAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for RayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Local => "local",
            Self::At(address) => address,
        })
    }
}

impl Words for RayAddress {
    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

/// An amount of a resource, which may be a fraction.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount),
        _ => Err("expected a number such as `1` or `0.5`".to_owned()),
    }
}

/// `NAME=AMOUNT`.
fn resource(text: &str) -> Result<(String, f64), String> {
    match text.split_once('=') {
        Some((name, amount)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), share(amount)?)),
        _ => Err("expected `NAME=AMOUNT`, such as `accelerator=1`".to_owned()),
    }
}

/// The name of a variable. A value that is given by mistake is not repeated.
fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0']) || text.contains(char::is_whitespace) {
        return Err("expected the name of a variable, whose value is taken from the environment".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_found_started_or_named() {
        let read = |text: &str| text.parse::<RayAddress>();
        assert_eq!(
            ["none", "auto", "local"].map(read),
            [RayAddress::None, RayAddress::Auto, RayAddress::Local].map(Ok)
        );
        for address in ["10.0.0.1:6379", "head.cluster:6379", "[::1]:6379"] {
            assert_eq!(read(address), Ok(RayAddress::At(address.to_owned())));
        }
        for text in ["", "questions.csv", ":6379", "head:port", "head:99999"] {
            assert!(read(text).unwrap_err().starts_with("expected `auto`"), "{text}");
        }
        assert!(read("ray://head:10001").unwrap_err().contains("`ray job submit"));
    }

    #[test]
    fn resources_are_amounts_and_variables_are_names() {
        assert_eq!(resource("fast disk=0.5"), Ok(("fast disk".to_owned(), 0.5)));
        assert!(["", "gpu", "=1", "gpu=", "gpu=-1", "gpu=inf"].iter().all(|text| resource(text).is_err()));
        assert_eq!(variable("API_KEY"), Ok("API_KEY".to_owned()));
        assert!(["", "API_KEY=sk-1", "two words"].iter().all(|text| variable(text).is_err()));
    }
}
