//! Names for the columns of the answers file, made unique.

use std::collections::HashSet;
use std::fmt;

/// The columns that every answers file ends with.
const OURS: [&str; 4] = ["status", "error", "attempts", "latency_ms"];

/// A column that had to be renamed because its name was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Renamed {
    /// The name it should have had.
    pub name: String,
    /// The name it has in the answers.
    pub column: String,
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name `{}` is taken: that column is written as `{}`", self.name, self.column)
    }
}

/// The names of the added columns: first the `fields` of the predictor, then ours.
pub(crate) fn added(input: &[String], fields: &[String]) -> (Vec<String>, Vec<Renamed>) {
    let input: HashSet<&str> = input.iter().map(String::as_str).collect();
    // Ours are named first: scripts look for `status`, so a field of that name gives way.
    let ours = OURS.map(|name| {
        unique(name, "run_", |candidate| {
            input.contains(candidate)
                || candidate != name
                    && (OURS.contains(&candidate) || fields.iter().any(|field| field == candidate))
        })
    });
    let mut columns: Vec<String> = Vec::with_capacity(fields.len() + OURS.len());
    for field in fields {
        let column = unique(field, "predicted_", |candidate| {
            input.contains(candidate)
                || ours.iter().any(|name| name == candidate)
                || candidate != field && (fields.iter().chain(&columns).any(|name| name == candidate))
        });
        columns.push(column);
    }
    columns.extend(ours);
    let names = fields.iter().map(String::as_str).chain(OURS);
    let renamed = names.zip(&columns).filter(|(name, column)| name != column).map(Renamed::from).collect();
    (columns, renamed)
}

/// Whether the columns of a file end like those of an answers file.
pub(super) fn end_in_ours(names: &[String]) -> bool {
    let ours = |(name, ours): (&String, &&str)| {
        name.strip_suffix(ours).is_some_and(|prefix| prefix.replace("run_", "").is_empty())
    };
    names.last_chunk::<4>().is_some_and(|last| last.iter().zip(&OURS).all(ours))
}

/// The names of the input with repeated ones numbered, `a`, `a_2`, because a JSON object can hold each only once.
pub(super) fn numbered(names: &[String]) -> (Vec<String>, Vec<Renamed>) {
    let own: HashSet<&String> = names.iter().collect();
    let mut seen: HashSet<String> = HashSet::with_capacity(names.len());
    let mut renamed = Vec::new();
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let mut column = name.clone();
        let mut number = 2;
        while seen.contains(&column) || column != *name && own.contains(&column) {
            column = format!("{name}_{number}");
            number += 1;
        }
        if column != *name {
            renamed.push(Renamed::from((name.as_str(), &column)));
        }
        seen.insert(column.clone());
        columns.push(column);
    }
    (columns, renamed)
}

fn unique(name: &str, prefix: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut candidate = name.to_owned();
    while taken(&candidate) {
        candidate.insert_str(0, prefix);
    }
    candidate
}

impl From<(&str, &String)> for Renamed {
    fn from((name, column): (&str, &String)) -> Self {
        Self { name: name.to_owned(), column: column.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_that_are_free_stay() {
        let (columns, renamed) = added(&strings(&["question"]), &strings(&["answer", "reasoning"]));
        assert_eq!(columns, ["answer", "reasoning", "status", "error", "attempts", "latency_ms"]);
        assert_eq!(renamed, []);
    }

    #[test]
    fn names_of_the_input_are_prefixed_and_told() {
        let input = strings(&["answer", "status", "run_status"]);
        let (columns, renamed) = added(&input, &strings(&["answer"]));
        assert_eq!(columns, ["predicted_answer", "run_run_status", "error", "attempts", "latency_ms"]);
        assert_eq!(
            renamed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "the name `answer` is taken: that column is written as `predicted_answer`",
                "the name `status` is taken: that column is written as `run_run_status`",
            ]
        );
    }

    #[test]
    fn a_predictors_field_gives_way_to_our_status() {
        let (columns, _) = added(&[], &strings(&["status", "predicted_status"]));
        assert_eq!(columns[..3], ["predicted_predicted_status", "predicted_status", "status"]);
    }

    #[test]
    fn repeated_names_of_the_input_are_numbered() {
        let (columns, renamed) = numbered(&strings(&["a", "b", "a", "a_2", "a"]));
        assert_eq!(columns, ["a", "b", "a_3", "a_2", "a_4"]);
        assert_eq!(renamed.len(), 2);
    }

    proptest! {
        #[test]
        fn all_columns_differ_whatever_the_names(
            input in proptest::collection::hash_set("(run_|predicted_){0,2}(status|answer|error|a)", 0..8),
            fields in proptest::collection::hash_set("(run_|predicted_){0,2}(status|answer|error|a)", 0..8),
        ) {
            let input: Vec<String> = input.into_iter().collect();
            let fields: Vec<String> = fields.into_iter().collect();
            let (columns, _) = added(&input, &fields);
            let all: HashSet<_> = input.iter().chain(&columns).collect();
            prop_assert_eq!(all.len(), input.len() + columns.len());
            prop_assert_eq!(columns.len(), fields.len() + 4);
        }
    }
}
