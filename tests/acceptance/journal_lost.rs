//! Journals that somebody else removes, moves, cuts or writes into while a run records into them.

use std::fs::{self, OpenOptions};
use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};

use super::support::job::{Job, Running};

const ROWS: usize = 30;
const JOURNAL: &str = "answers.csv.journal";

/// Ten rows are answered at once, the others when the file `gate` is there.
const WAITS: &str = "
async def predict(question, row_id):
    called(question)
    while row_id >= 10 and not os.path.exists('gate'):
        await asyncio.sleep(0.005)
    return question
";

/// Ten rows are recorded, four are in flight, the others are open.
fn under_way(predictor: &str) -> (Job, Running) {
    let job = Job::new().questions(ROWS).predictor(predictor);
    let process = ["process", "questions.csv", "-o", "answers.csv", "--predictor", "predictor.py:predict"];
    let mut running = job.spawn(&[&process[..], &["-c", "4"]].concat());
    running.wait_for(JOURNAL, "\"outcome\"", 10);
    running.wait_for_calls(14);
    (job, running)
}

#[test]
fn a_journal_that_is_cut_stops_the_run_and_keeps_what_comes_after() {
    let (job, mut running) = under_way(WAITS);
    let journal = OpenOptions::new().write(true).open(job.path(JOURNAL)).unwrap();
    journal.set_len(0).unwrap();
    running.wait_for(".stderr", "the journal was cut short while the run recorded into it", 1);
    fs::write(job.path("gate"), "").unwrap();
    let done = running.wait().expect(1).says("is lost: 10 answers; 4 left").says("hint: put back a copy");
    assert!(done.stderr.contains("resume answers.csv` calls the lost rows again"), "{}", done.stderr);
    assert_eq!(job.calls().len(), 14, "rows were open");
    let answered = job.column("status").iter().filter(|status| *status == "ok").count();
    assert_eq!((answered, job.report()["rows"]["ok"].as_u64()), (4, Some(4)));
    job.resume().expect(0).says("4 rows answered before");
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS + 10, job.column("question")));
}

#[test]
fn a_journal_cut_in_the_middle_keeps_its_first_answers_too() {
    let (job, mut running) = under_way(WAITS);
    let text = job.read(JOURNAL);
    let fifth = text.match_indices("{\"outcome\"").nth(5).unwrap().0;
    OpenOptions::new().write(true).open(job.path(JOURNAL)).unwrap().set_len(fifth as u64 + 20).unwrap();
    running.wait_for(".stderr", "the journal was cut short", 1);
    fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(1).says("is lost: 5 answers; 9 left");
    job.resume().expect(0);
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS + 5, job.column("question")));
}

#[test]
fn a_journal_that_is_moved_away_stops_the_run_as_a_removed_one_does() {
    let (job, mut running) = under_way(WAITS);
    fs::rename(job.path(JOURNAL), job.path("elsewhere")).unwrap();
    running.wait_for(".stderr", "the journal was moved away", 1);
    fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(1).says("the journal is written anew under its name: no answer is lost");
    assert!(job.calls().len() < ROWS);
    job.resume().expect(0).says("14 rows answered before");
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS, job.column("question")));
}

#[test]
fn a_journal_that_another_file_has_replaced_is_kept_under_another_name() {
    let (job, mut running) = under_way(WAITS);
    fs::remove_file(job.path(JOURNAL)).unwrap();
    fs::write(job.path(JOURNAL), "another file\n").unwrap();
    running.wait_for(".stderr", "while the run recorded into it", 1);
    fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(1).says("is another file now; what the run recorded is in");
    assert_eq!((job.calls().len(), job.read(JOURNAL)), (14, "another file\n".to_owned()));
    let kept = job.files().into_iter().find(|name| name.starts_with("answers.csv.journal.")).unwrap();
    fs::rename(job.path(&kept), job.path(JOURNAL)).unwrap();
    job.resume().expect(0).says("14 rows answered before");
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS, job.column("question")));
}

#[test]
fn a_line_that_is_just_being_written_is_not_torn_and_costs_no_row() {
    let (job, mut running) = under_way(WAITS);
    // Half a line, as a reader may find it; nobody else's is ever whole either.
    OpenOptions::new().append(true).open(job.path(JOURNAL)).unwrap().write_all(b"01234567 {\"outc").unwrap();
    for command in [&["report", "answers.csv"][..], &["export", "answers.csv", "-o", "so_far.csv"]] {
        let done = job.run(command).expect(0);
        assert!(!done.stderr.contains("torn"), "{}", done.stderr);
    }
    assert!(running.is_running() && running.calls() == 14);
    fs::write(job.path("gate"), "").unwrap();
    running.wait().expect(0);
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS, job.column("question")));
    job.run(&["report", "answers.csv"]).expect(0).says("is damaged");
}

#[test]
fn a_journal_written_anew_is_not_held_by_a_child_that_is_forked_after_that() {
    // The first write after the journal has its name again hangs, so that the run lives on while it forks.
    let forks = "import threading
def later():
    journal = 'answers.csv.journal'
    while not os.path.exists(journal): time.sleep(0.001)
    while os.path.exists(journal): time.sleep(0.001)
    while not os.path.exists(journal): pass
    open('hang', 'w').close()
    while not os.path.exists('hang.met'): time.sleep(0.001)
    if os.fork() == 0:
        os.closerange(0, 3)
        with open('child', 'w') as child: child.write(f'{os.getpid()} pid')
        time.sleep(60)
        os._exit(0)
threading.Thread(target=later, daemon=True).start()
";
    let job = Job::new().questions(ROWS).predictor(&format!("{forks}{WAITS}"));
    let job = job.args(["-c", "4"]).disk_may_hang(false);
    let mut running = job.start();
    running.wait_for(JOURNAL, "\"outcome\"", 10);
    running.wait_for_calls(14);
    fs::remove_file(job.path(JOURNAL)).unwrap();
    running.wait_for(".stderr", "the journal was removed", 1);
    fs::write(job.path("gate"), "").unwrap();
    running.wait_for("child", "pid", 1);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, -9);
    fs::remove_file(job.path("hang")).unwrap();
    let job = job.predictor(WAITS);
    job.resume().expect(0).says("14 rows answered before");
    assert_eq!((job.calls().len(), job.column("answer")), (ROWS, job.column("question")));
    // It was there all the time.
    let child = job.read("child").split_once(' ').unwrap().0.parse().unwrap();
    kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
}
