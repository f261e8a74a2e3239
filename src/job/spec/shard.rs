//! Parses the value of `--shard`, which may leave its number to the scheduler.

use crate::environment;
use crate::selection::Shard;

/// The variables in which Kubernetes and Slurm tell a task its number.
const TASK_NUMBERS: [&str; 2] = ["JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"];

/// A shard `K/N`, or `auto/N`, where the environment tells K.
pub(crate) fn shard(text: &str) -> Result<Shard, String> {
    let variable = |name: &str| environment::variable(name).and_then(|value| value.into_string().ok());
    match text.strip_prefix("auto/") {
        Some(of) => own_shard(of, variable),
        None => text.parse(),
    }
}

/// The shard of this task, of so many.
fn own_shard(of: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let [kubernetes, slurm] = TASK_NUMBERS;
    let of = of.parse().map_err(|_| "expected `auto/N`, such as `auto/4`".to_owned())?;
    let set = |name: &'static str| Some((name, variable(name).filter(|value| !value.trim().is_empty())?));
    let (name, number) = match (set(kubernetes), set(slurm)) {
        (None, None) => {
            return Err(format!("neither `{kubernetes}` nor `{slurm}` is set: give K, as in `0/{of}`"));
        }
        (Some((_, one)), Some((_, other))) if one != other => {
            return Err(format!(
                "`{kubernetes}` is {one} and `{slurm}` is {other}: say which is meant, as in `{one}/{of}`"
            ));
        }
        (Some(set), _) | (None, Some(set)) => set,
    };
    let wrong = |why: String| format!("`{name}` is {number}, and {why}");
    let parsed =
        number.trim().parse().map_err(|_| wrong("a shard has a whole number from 0 on".to_owned()))?;
    Shard::new(parsed, of).map_err(|there| {
        let last = of.saturating_sub(1);
        wrong(format!("{there}: number the tasks 0-{last}, or give as N how many there are"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_takes_its_number_from_its_scheduler_and_from_no_two() {
        let shard = |of: &str, kubernetes: &str, slurm: &str| {
            let value = |name: &str| if name == TASK_NUMBERS[0] { kubernetes } else { slurm }.to_owned();
            own_shard(of, |name| Some(value(name))).map(|shard| shard.to_string())
        };
        let taken = [shard("4", "0", ""), shard("4", "", "3"), shard("4", "2", "2"), shard("1", "0", "")];
        assert_eq!(taken, ["0/4", "3/4", "2/4", "0/1"].map(|shard| Ok(shard.to_owned())));
        let refused = [
            shard("4", "", ""),
            shard("4", "4", ""),
            shard("4", "1", "2"),
            shard("4", "", "4294967294"),
            shard("4", "x", ""),
            shard("0", "0", ""),
            shard("", "0", ""),
        ];
        insta::assert_snapshot!(refused.map(Result::unwrap_err).join("\n"), @r"
        neither `JOB_COMPLETION_INDEX` nor `SLURM_ARRAY_TASK_ID` is set: give K, as in `0/4`
        `JOB_COMPLETION_INDEX` is 4, and there are shards 0/4 to 3/4: number the tasks 0-3, or give as N how many there are
        `JOB_COMPLETION_INDEX` is 1 and `SLURM_ARRAY_TASK_ID` is 2: say which is meant, as in `1/4`
        `SLURM_ARRAY_TASK_ID` is 4294967294, and there are shards 0/4 to 3/4: number the tasks 0-3, or give as N how many there are
        `JOB_COMPLETION_INDEX` is x, and a shard has a whole number from 0 on
        `JOB_COMPLETION_INDEX` is 0, and a file has at least one shard: number the tasks 0-0, or give as N how many there are
        expected `auto/N`, such as `auto/4`
        ");
    }
}
