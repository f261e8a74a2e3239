//! The main job: rows in, answers and a report out.

use super::support::job::Job;

#[test]
fn every_row_is_called_once_and_answered_beside_itself() {
    let job = Job::new().questions(500).echo();
    job.process().expect(0);
    assert_eq!(job.calls().len(), 500);
    assert_eq!(job.column("answer"), job.column("question"));
    assert!(job.column("status").iter().all(|status| status == "ok"));
}
