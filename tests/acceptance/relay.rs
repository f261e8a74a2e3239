//! Actors that a relay without Ray starts, as processes of this machine: what the program tells a relay, and what it makes
//! of what a relay tells.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::support::job::{Job, Running, program};
use super::workers_faults::{are_answered_but, failures, none_is_left, processes, send};

/// Notes row and process of each call, and answers with the process.
const MARKED: &str = "
async def predict(question, row_id):
    called([row_id, os.getpid()])
    await asyncio.sleep(0.01)
    return f'{question} {os.getpid()}'
";

/// A job on a cluster of two actors.
fn job(rows: usize, code: &str) -> Job {
    let job = Job::new().questions(rows).predictor(code);
    let package = job.path("fake/tokio_asyncio_bridge/_ray");
    fs::create_dir_all(&package).unwrap();
    for package in [&*package, package.parent().unwrap()] {
        fs::write(package.join("__init__.py"), "").unwrap();
    }
    fs::write(package.join("__main__.py"), include_str!("support/fake_relay.py")).unwrap();
    let path = job.path("fake").to_str().unwrap().to_owned();
    let job = job.env("PYTHONPATH", &path).env("FAKE_WORKER", program().to_str().unwrap());
    job.args(["--ray", "local", "-c", "8", "--retries", "0"])
}

/// Gives the relay orders.
fn order(job: &Job, orders: &str) {
    let before = fs::read_to_string(job.path("orders")).unwrap_or_default();
    fs::write(job.path("orders"), before + orders).unwrap();
}

/// The actors that were started, each by its process.
fn actors(running: &Running) -> Vec<i32> {
    let lines = running.text("actors");
    lines.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

fn relay(running: &Running) -> i32 {
    running.text("relay").parse().unwrap()
}

#[test]
fn each_row_is_answered_once_by_actors_that_are_named_by_their_nodes() {
    // So long that the second actor is ready before the end.
    let code = MARKED
        .replace("    await", "    print('asked', question, flush=True)\n    await")
        .replace("0.01", "0.1");
    let job = job(200, &code).args(["--ray-cpus", "0.5", "--ray-resources", "fast=1"]);
    let done = job.process().expect(0);
    are_answered_but(&job, &[]);
    assert_eq!(job.calls().len(), 200);
    assert!(done.stderr.contains("8 calls at once on uvloop in 2 actors on Ray (a fake)"), "{}", done.stderr);
    for named in ["[worker 1 on node-0] asked", "[worker 2 on node-1] asked", "[ray] the relay logs"] {
        assert!(done.stderr.contains(named), "{}", done.stderr);
    }
    let asked: serde_json::Value = serde_json::from_str(&job.read("asked.json")).unwrap();
    assert_eq!(
        [&asked["address"], &asked["actors"], &asked["cpus"], &asked["gpus"], &asked["resources"]],
        [&json!("local"), &json!(8), &json!(0.5), &json!(null), &json!({"fast": 1.0})]
    );
    let workers = &job.report()["workers"];
    let calls: u64 = workers.as_array().unwrap().iter().map(|one| one["calls"].as_u64().unwrap()).sum();
    assert_eq!(calls, 200, "{workers}");
    assert!(job.path("closed").exists(), "the relay was not asked to close");
    none_is_left(&job);
}

#[test]
fn a_variable_of_the_env_file_has_in_an_actor_the_value_that_it_has_here() {
    let code = "
async def predict(question):
    return os.environ['SERVICE_KEY'] + ' ' + os.environ['OF_FILE']
";
    let job =
        job(1, code).file("my.env", "SERVICE_KEY=of-the-file\nOF_FILE=new\n").env("SERVICE_KEY", "of-here");
    // A node does not have the variables of this machine.
    let job = job.env("FAKE_WITHOUT", "SERVICE_KEY");
    job.process_with(&["--env-file", "my.env"]).expect(0);
    assert_eq!(job.column("answer"), ["of-here new"]);
}

#[test]
fn a_row_that_kills_its_actor_is_set_aside_though_there_is_no_room_for_another_actor() {
    let code = "
async def predict(question, row_id):
    called(row_id)
    if row_id == 20:
        os.kill(os.getpid(), 9)
    await asyncio.sleep(0.05)
    return question
";
    // In the third case others use the cluster too, and in the last one more actors are asked for than it holds.
    for (capacity, taken, actors) in
        [("1", "0", None), ("2", "0", None), ("3", "1", None), ("2", "0", Some("5"))]
    {
        let job = job(60, code).env("FAKE_CAPACITY", capacity).env("FAKE_TAKEN", taken);
        let job = job.args(actors.into_iter().flat_map(|number| ["--ray-actors", number]));
        job.process().expect(3);
        are_answered_but(&job, &[20]);
        assert_eq!(failures(&job), [("crash".to_owned(), 1)].into());
        let error = &job.answers()[20]["error"];
        assert!(error.contains("crashed 3 times while this row alone was in flight"), "{error}");
        none_is_left(&job);
    }
}

#[test]
fn an_actor_that_has_grown_too_large_is_replaced_once_its_calls_have_ended() {
    let code = "
KEPT = []

async def predict(question, row_id):
    called(row_id)
    KEPT.append(b'x' * (5 << 20))
    await asyncio.sleep(0.05)
    return question
";
    let job = job(200, code).args(["-c", "4", "--worker-max-rss", "250MiB"]);
    let mut running = job.start();
    running.wait_for("actors", "\n", 4);
    running.wait().expect(0);
    are_answered_but(&job, &[]);
    assert_eq!(job.calls().len(), 200);
    let attempts = &job.report()["attempts"];
    assert_eq!((&attempts["retries"], &attempts["abandoned"]), (&json!(0), &json!(0)));
}

#[test]
fn calls_of_an_actor_whose_end_was_not_seen_are_abandoned_and_blame_no_row() {
    let job = job(2_000, MARKED);
    let mut running = job.start();
    running.wait_for_calls(40);
    order(&job, "unseen\n");
    running.wait_for("obeyed", "\n", 1);
    // One that has calls: the other may still be starting.
    let busy = job.calls().last().unwrap()[1].as_i64().unwrap();
    send(busy as i32, Signal::KILL);
    running.wait().expect(0);
    are_answered_but(&job, &[]);
    let attempts = &job.report()["attempts"];
    let lost = attempts["by_error"]["lost"].as_u64().unwrap_or_default();
    assert!(lost > 0 && attempts["abandoned"].as_u64() == Some(lost), "{attempts}");
    let calls = job.calls().len() as u64;
    assert!(calls <= 2_000 + lost, "{calls} calls");
    let workers = job.report()["workers"].clone();
    assert!(!workers.to_string().contains("\"for_suspects\":true"), "{workers}");
}

#[test]
fn a_cluster_that_grows_is_used_and_an_actor_that_finds_no_room_waits_for_it() {
    let job = job(600, MARKED).env("FAKE_CAPACITY", "1");
    let mut running = job.start();
    running.wait_for_calls(20);
    order(&job, "capacity 3\n");
    running.wait_for("actors", "\n", 3);
    order(&job, "capacity 2\n");
    std::thread::sleep(Duration::from_millis(100));
    send(actors(&running)[2], Signal::KILL);
    running.wait_for(".stderr", "an actor waits: no node has room", 1);
    order(&job, "capacity 3\n");
    running.wait_for("actors", "\n", 4);
    running.wait().expect(0);
    are_answered_but(&job, &[]);
    none_is_left(&job);
}

#[test]
fn actors_whose_number_is_given_are_all_asked_for_so_that_a_cluster_can_grow_for_them() {
    let job = job(200, MARKED).env("FAKE_CAPACITY", "0").env("FAKE_SCALES", "3");
    let job = job.args(["--ray-actors", "3", "--deadline", "60s"]);
    job.process().expect(0);
    assert_eq!(job.read("actors").lines().count(), 3);
    are_answered_but(&job, &[]);
    none_is_left(&job);
    // What does not load where there is room is not tried on what never comes.
    let broken = self::job(3, "raise OSError('no GPU here')").args(["--ray-actors", "100"]);
    let done = broken.process().expect(1);
    assert!(done.stderr.contains("OSError: no GPU here"), "{}", done.stderr);
    let started = broken.read("actors").lines().count();
    // The fake starts another actor at once for each that ends, until the program has heard of the first one's error.
    assert!(started < 60, "{started} actors");
}

#[test]
fn a_cluster_that_is_lost_ends_the_run_and_resume_goes_on_also_without_it() {
    for is_killed in [true, false] {
        let job = job(300, MARKED).env("FAKE_GONE_AFTER", "5");
        let mut running = job.start();
        running.wait_for_calls(50);
        let lost = Instant::now();
        if is_killed {
            send(relay(&running), Signal::KILL);
        } else {
            order(&job, "lost\n");
        }
        let done = running.wait().expect(5);
        assert!(done.stderr.contains("the cluster is lost"), "{}", done.stderr);
        // Real actors could be calling until then.
        assert!(lost.elapsed() >= Duration::from_secs(5), "{:?}", lost.elapsed());
        let told = done.stderr.contains("for calls that can no longer be reached");
        assert!(told && done.stderr.contains("hint: Ctrl-C ends the wait"), "{}", done.stderr);
        none_is_left(&job);
        let (before, unanswered) = (job.calls().len(), 300 - job.report()["rows"]["ok"].as_u64().unwrap());
        let done = job.run_alone(&["resume", "answers.csv", "--ray", "none"]).expect(0);
        assert!(!done.stderr.contains("crash"), "{}", done.stderr);
        assert_eq!(job.calls().len() - before, unanswered as usize);
        are_answered_but(&job, &[]);
    }
}

#[test]
fn a_cluster_that_is_lost_before_the_first_call_is_worth_another_attempt() {
    let job = job(3, MARKED).env("FAKE_CAPACITY", "0");
    let mut running = job.start();
    running.wait_for(".stderr", "an actor waits", 1);
    order(&job, "lost\n");
    let done = running.wait().expect(5);
    assert!(done.stderr.contains("error: the Ray cluster was lost before the first call"), "{}", done.stderr);
    none_is_left(&job);
}

#[test]
fn the_deadline_ends_the_wait_for_room_which_counts_as_time_of_the_run() {
    let full = job(3, MARKED).env("FAKE_CAPACITY", "0").args(["--deadline", "3s"]);
    let begun = Instant::now();
    let done = full.process().expect(5);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let why = "error: the deadline has passed before an actor was ready: no node has room: 0 of 0 are taken";
    assert!(done.stderr.contains(why), "{}", done.stderr);
    none_is_left(&full);
    let code = MARKED.replace("0.01", "100");
    let late = job(3, &code).env("FAKE_CAPACITY", "0").args(["--deadline", "30s", "--grace", "1s"]);
    let mut running = late.start();
    let begun = Instant::now();
    running.wait_for(".stderr", "an actor waits", 1);
    std::thread::sleep(Duration::from_secs(10));
    order(&late, "capacity 1\n");
    let done = running.wait().expect(5);
    assert!(done.stderr.contains("the deadline has passed"), "{}", done.stderr);
    assert!(begun.elapsed() < Duration::from_secs(39), "{:?}", begun.elapsed());
}

#[test]
fn a_signal_ends_the_wait_for_actors_that_were_left_behind() {
    let job = job(300, MARKED).env("FAKE_GONE_AFTER", "60");
    let mut running = job.start();
    running.wait_for_calls(50);
    send(relay(&running), Signal::KILL);
    running.wait_for(".stderr", "for calls that can no longer be reached", 1);
    running.signal(Signal::INT);
    let asked = Instant::now();
    running.wait().expect(5);
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[test]
fn the_relay_and_its_actors_end_with_a_killed_program() {
    let job = job(2_000, MARKED);
    let mut running = job.start();
    running.wait_for_calls(50);
    assert!(processes(&job).len() >= 4, "{:?}", processes(&job));
    running.signal(Signal::KILL);
    running.wait();
    none_is_left(&job);
    job.resume().expect(0);
    are_answered_but(&job, &[]);
    let calls = job.calls().len();
    assert!(calls <= 2_000 + 2 * 8, "{calls} calls");
}

#[test]
fn a_predictor_that_loads_on_no_node_ends_the_run_and_one_that_does_on_some_leaves_out_the_others() {
    // The calls wait until both actors have been started.
    let code = MARKED.replace(
        "asyncio.sleep(0.01)",
        "asyncio.sleep(0.01)\n    while os.path.exists('held'):\n        await asyncio.sleep(0.01)",
    ) + "\nif os.environ['NODE'] in open('bad').read():\n    raise OSError('no GPU here')\n";
    let job = job(100, &code).file("bad", "node-0 node-1");
    let done = job.process().expect(1);
    assert_eq!(done.stderr.matches("OSError: no GPU here").count(), 1, "{}", done.stderr);
    none_is_left(&job);
    let job = job.file("bad", "node-1").file("held", "");
    let mut running = job.start();
    running.wait_for(".stderr", "cannot be started on node-1, which gets no more workers", 1);
    fs::remove_file(job.path("held")).unwrap();
    running.wait().expect(0);
    assert_eq!(job.calls().len(), 100);
}

#[test]
fn a_cluster_that_cannot_be_reached_and_a_python_without_the_relay_are_told_with_the_remedy() {
    // A scheduler repeats what ended with 5.
    let job = job(3, MARKED).file("refused", "");
    let done = job.process().expect(1);
    assert!(done.stderr.contains("failed to load the predictor"), "{}", done.stderr);
    let job = job.file("unreachable", "");
    let done = job.process().expect(5);
    assert!(done.stderr.contains("error: there is no cluster\nhint: start one"), "{}", done.stderr);
    let job = job.env("PYTHONPATH", "");
    let done = job.process().expect(1);
    assert!(done.stderr.contains("-m pip install 'tokio_asyncio_bridge-….whl[ray]'"), "{}", done.stderr);
}
