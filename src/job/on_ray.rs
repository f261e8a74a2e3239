//! Starts what answers the rows in actors on a Ray cluster. This process needs neither an interpreter nor Ray for it:
//! another one, the relay, reaches the cluster.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::error::{ErrorKind, JobError};
use super::in_workers::{InWorkers, Started, kill_after};
use super::models::Models;
use super::order::{Facts, Order, written};
use super::prints::{Printed, Printer, Who};
use super::ray::as_here;
use super::starting::{PACKAGES, RayOptions, StartOptions, given, not_loaded, not_started};
use crate::bridge::Bridge as _;
use crate::bridge::python::interpreter::{linked_version, located};
use crate::bridge::python::parcel::{self, Parcel};
use crate::bridge::remote::{Host, PROTOCOL};
use crate::bridge::workers::{Cluster, Connect, Hosts, NoWorkers, Program, Settings, Which, Workers};
use crate::observe::Level;
use crate::report::text::counted;
use crate::secret::Secrets;

/// The module that becomes the relay.
const RELAY: &str = "tokio_asyncio_bridge._ray";

/// The most actors that a cluster is asked for, unless the user says how many.
const MOST: usize = 1_000;

/// Why a node has no local model.
const NOT_HERE: &str = "`--model local` is served on the machine that runs the program, and this node is another\n\
    hint: serve a model that all nodes can reach, and name it by `--model` and `--api-base`";

/// Starts the actors that the options ask for.
pub(super) fn start(options: StartOptions<'_>, ray: &RayOptions<'_>) -> Result<Started, JobError> {
    let (predictor, dry_run, calls, sent) = (options.predictor, options.dry_run, options.calls, ray.sent);
    let mut load = options.load()?;
    let (python, interpreter) =
        located(predictor.python.as_deref()).map_err(|error| not_started(error.into(), predictor))?;
    let variables = interpreter.as_ref().map(|interpreter| load.set_variables(interpreter)).transpose();
    let variables = variables.map_err(|error| not_started(error.into(), predictor))?.flatten();
    load.python = None;
    load.variables = as_here(load.variables);
    load.predictor.clone_from(&sent.predictor.predictor);
    load.signature.clone_from(&sent.predictor.signature);
    load.program.clone_from(&sent.predictor.program);
    let parcel = options.object.as_ref().map(|object| Parcel::pack(Some(object), false)).transpose();
    let parcel = parcel.map_err(|error| not_loaded(predictor).because(error))?;
    // What is secret in this process's environment alone does not leave this machine.
    let mut theirs = given(predictor);
    sent.hide(&mut theirs);
    let order = Order {
        load,
        parcel,
        variables: sent.variables.clone(),
        secrets: theirs.values().to_vec(),
        packages: PACKAGES.map(str::to_owned).into(),
    };
    let is_guest = interpreter.as_ref().is_some_and(|interpreter| !interpreter.is_embedded);
    let words = if is_guest {
        parcel::program(RELAY).map_err(|error| not_loaded(predictor).because(error))?
    } else {
        vec![python.to_string_lossy().into_owned(), "-m".to_owned(), RELAY.to_owned()]
    };
    let mut words = words.into_iter();
    let path = words.next().unwrap_or_default().into();
    let models = Arc::new(Models::new(predictor, python, calls, dry_run));
    let printer = Printer::new(options.prints);
    let printed = printer.printed();
    let settings = Settings {
        load: written(&order),
        host: host(&models, &printed, options.secrets),
        kill_after: kill_after(ray.time),
        max_rss: ray.max_rss,
    };
    let cluster = Cluster {
        asks_for_all: ray.spec.ray_actors.is_some(),
        until: ray.time.deadline.and_then(|deadline| Instant::now().checked_add(deadline)),
        relay: Program { path, arguments: words.map(Into::into).collect() },
        connect: connect(ray, calls),
        secrets: options.secrets.clone(),
        log: Box::new(move |line| printed(Who::Named(0, "ray".into()), line)),
        warn: {
            let tell = Arc::clone(&ray.tell);
            Box::new(move |text| tell(Level::Warning, &text))
        },
    };
    let bridge = Workers::start(settings, Which::Actors(Box::new(cluster)), options.stop);
    let mut bridge = bridge.map_err(|error| match error {
        NoWorkers::NoCluster(text) => JobError::new(ErrorKind::Cluster, text),
        NoWorkers::Refused(_) => not_loaded(predictor).because(error),
    })?;
    let facts = Facts::of(bridge.facts(), ray.max_rss)?;
    sent.name_as_here(bridge.description(), &facts.directory);
    let told = InWorkers {
        number: format!("{} on Ray ({})", counted(bridge.describe().workers, "actor"), bridge.note()),
        note: None,
        ready_after: bridge.ready_after(),
        facts,
        _printer: printer,
    };
    Ok(Started { bridge: Arc::new(bridge), interpreter, workers: told, models, variables })
}

/// What is asked of the cluster.
fn connect(ray: &RayOptions<'_>, calls: usize) -> Connect {
    let spec = ray.spec;
    // An actor beyond the calls in flight would never have one.
    let actors = spec.ray_actors.map_or(calls.min(MOST), |number| number.get() as usize);
    let actors = if ray.only_one { 1 } else { actors };
    Connect {
        address: spec.ray.to_string(),
        actors,
        cpus: spec.ray_cpus,
        gpus: spec.ray_gpus,
        resources: spec.ray_resources.iter().cloned().collect(),
        runtime_env: ray.sent.runtime_env.clone().into(),
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        python: linked_version(),
    }
}

/// Whether a node, such as `host (10.0.0.1)` or `host (10.0.0.1, 4f2a10)`, is on this machine.
fn is_this_machine(node: &str) -> bool {
    let address = node.rsplit_once('(').and_then(|(_, rest)| rest.split([',', ')']).next());
    let address = address.and_then(|address| address.parse::<IpAddr>().ok());
    // Only an address of this machine can be bound to.
    address.is_some_and(|address| UdpSocket::bind((address, 0)).is_ok())
}

/// What is done for each actor. Those that take one place after another print on lines of their own.
fn host(models: &Arc<Models>, printed: &Printed, secrets: &Secrets) -> Hosts {
    let (models, printed, next) = (Arc::clone(models), Arc::clone(printed), AtomicUsize::new(1));
    let secrets = Arc::new(secrets.clone());
    Box::new(move |number, node| {
        let (models, printed, node) = (Arc::clone(&models), Arc::clone(&printed), Arc::clone(node));
        let secrets = Arc::clone(&secrets);
        let own = next.fetch_add(1, Ordering::Relaxed);
        Host {
            model: {
                let node = Arc::clone(&node);
                Box::new(move || {
                    let is_here = node.get().is_none_or(|node| is_this_machine(node));
                    if models.is_local() && !is_here {
                        return Err(NOT_HERE.to_owned());
                    }
                    models.provide().map(|settings| written(&settings))
                })
            },
            printed: Box::new(move |bytes| {
                let name = match node.get() {
                    Some(node) => format!("worker {number} on {node}"),
                    None => format!("worker {number}"),
                };
                printed(Who::Named(own, name.into()), &secrets.mask_bytes(bytes));
            }),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_on_this_machine_if_its_address_is_one_of_it() {
        let nodes = ["here (127.0.0.1)", "here (127.0.0.1, 4f2a10)", "there (203.0.113.7)", "nowhere"];
        assert_eq!(nodes.map(is_this_machine), [true, true, false, false]);
    }
}
