//! Decides which column becomes which argument of the predictor.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::types::Kind;

/// The parameter that `--column` sets the column of, and the column it takes by default.
const QUESTION: &str = "question";

/// One named parameter of the predictor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it has no default.
    pub required: bool,
    /// Its type; `None` for text and for parameters without a type.
    pub kind: Option<Arc<Kind>>,
}

/// What the predictor takes, and which columns the user named.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The named parameters, in order, except those that the bridge supplies (`row_id`, `attempt`).
    pub parameters: Vec<Parameter>,
    /// Whether the predictor takes arguments of any name (`**row`).
    pub takes_all: bool,
    /// `--column`.
    pub column: Option<String>,
    /// `--map`: pairs of parameter and column.
    pub map: Vec<(String, String)>,
    /// `--id-column`.
    pub id_column: Option<String>,
}

/// In which rows a column must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// In every selected row, because a required parameter takes it.
    EveryRow,
    /// In at least one row, because the user named it.
    SomeRow,
    /// In none: the argument is omitted from rows without it.
    Optional,
}

/// One argument and the column that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The parameter.
    pub parameter: Arc<str>,
    /// The column.
    pub column: Arc<str>,
    /// In which rows the column must exist. Matters for JSONL only: in CSV every row has all columns.
    pub presence: Presence,
    /// Whether it goes to `**row`, which is passed the column under its own name too.
    pub extra: bool,
    /// The type of the parameter.
    pub kind: Option<Arc<Kind>>,
}

/// How the columns of a row become arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// The arguments, in the order of the parameters.
    pub arguments: Vec<Bound>,
    /// Whether all other columns are passed as well, under their own names.
    pub takes_all: bool,
    /// The column of the question. A row in which it is blank fails without a call.
    pub question: Option<Arc<str>>,
    /// `--id-column`. It is copied to the answers and never used as a key.
    pub id_column: Option<Arc<str>>,
}

impl Binding {
    /// Binds the parameters to the columns of a file: the names of a CSV header, or the keys of the first selected JSON
    /// object. `open` says that other records may have other columns, as in JSONL.
    pub(super) fn new(wanted: &Wanted, columns: &[String], open: bool) -> Result<Self, Fault> {
        check_map(wanted)?;
        let known: HashSet<&str> = columns.iter().map(String::as_str).collect();
        let lacks =
            |column: &str, presence| !known.contains(column) && (presence == Presence::EveryRow || !open);
        let mut arguments = wanted.arguments();
        if let Some(column) = &wanted.column
            && !arguments.iter().any(|bound| *bound.column == **column)
        {
            let required = |bound: &&mut Bound| bound.presence == Presence::EveryRow;
            let mut lacking =
                arguments.iter_mut().filter(required).filter(|bound| lacks(&bound.column, bound.presence));
            match (lacking.next(), lacking.next()) {
                (Some(only), None) => only.column = column.as_str().into(),
                (None, _) => return Err(wanted.unused_column(column)),
                _ => {}
            }
        }
        arguments
            .retain(|bound| bound.presence != Presence::Optional || !lacks(&bound.column, bound.presence));
        let id_column = wanted.id_column.as_deref().map(Arc::from);
        let missing = |column: &str, parameter: Option<&str>| Fault::MissingColumn {
            column: column.to_owned(),
            parameter: parameter.map(str::to_owned),
            columns: columns.to_vec(),
        };
        if let Some(bound) = arguments.iter().find(|bound| lacks(&bound.column, bound.presence)) {
            return Err(missing(&bound.column, Some(&bound.parameter)));
        }
        if let Some(column) = wanted.id_column.as_deref().filter(|column| lacks(column, Presence::SomeRow)) {
            return Err(missing(column, None));
        }
        let question = wanted.question(&arguments, open || known.contains(QUESTION));
        Ok(Self { arguments, takes_all: wanted.takes_all, question, id_column })
    }

    /// Whether the predictor is passed the column. The id column alone is not.
    pub(super) fn uses(&self, column: &str) -> bool {
        (self.takes_all && !column.is_empty()) || self.arguments.iter().any(|bound| &*bound.column == column)
    }

    /// Whether the column is passed to `**row` under its own name: it must have one, and no named parameter may take
    /// the column or have that name.
    pub(super) fn passes(&self, column: &str) -> bool {
        let taken = |bound: &Bound| &*bound.parameter == column || (&*bound.column == column && !bound.extra);
        self.takes_all && !column.is_empty() && !self.arguments.iter().any(taken)
    }
}

impl Wanted {
    /// The arguments that are wanted, whether or not the file has their columns.
    fn arguments(&self) -> Vec<Bound> {
        let mapped = |parameter: &str| {
            self.map.iter().find(|(mapped, _)| mapped == parameter).map(|(_, column)| column.as_str())
        };
        let asked = |parameter: &str| {
            mapped(parameter).or_else(|| self.column.as_deref().filter(|_| parameter == QUESTION))
        };
        let bound = |parameter: &str, column: &str, presence, extra| Bound {
            parameter: parameter.into(),
            column: column.into(),
            presence,
            extra,
            kind: None,
        };
        let named = self.parameters.iter().map(|Parameter { name, required, kind }| {
            let asked = asked(name);
            let presence = match asked {
                _ if *required => Presence::EveryRow,
                Some(_) => Presence::SomeRow,
                None => Presence::Optional,
            };
            Bound { kind: kind.clone(), ..bound(name, asked.unwrap_or(name), presence, false) }
        });
        let question = [QUESTION].into_iter().filter(|_| mapped(QUESTION).is_none());
        let extra = self.map.iter().map(|(parameter, _)| parameter.as_str()).chain(question);
        let extra = extra.filter(|name| self.takes_all && !self.has(name));
        let extra = extra.filter_map(|name| Some(bound(name, asked(name)?, Presence::SomeRow, true)));
        named.chain(extra).collect()
    }

    /// The column of the question: that of the parameter `question`, else the one of `--column`, else that of the first
    /// required parameter that cannot be null, else the column `question` that goes to `**row`.
    fn question(&self, arguments: &[Bound], has_question: bool) -> Option<Arc<str>> {
        let first = |wanted: &dyn Fn(&&Bound) -> bool| arguments.iter().find(wanted);
        let takes_null = |bound: &Bound| bound.kind.as_ref().is_some_and(|kind| kind.takes_null);
        let bound = first(&|bound| &*bound.parameter == QUESTION)
            .or_else(|| first(&|bound| self.column.as_deref() == Some(&*bound.column)))
            .or_else(|| first(&|bound| bound.presence == Presence::EveryRow && !takes_null(bound)));
        match bound {
            Some(bound) => Some(Arc::clone(&bound.column)),
            None => (self.takes_all && has_question).then(|| QUESTION.into()),
        }
    }

    fn has(&self, parameter: &str) -> bool {
        self.parameters.iter().any(|known| known.name == parameter)
    }

    fn unused_column(&self, column: &str) -> Fault {
        let free = |parameter: &&Parameter| !self.map.iter().any(|(mapped, _)| *mapped == parameter.name);
        let parameter = self.parameters.iter().find(free).map(|parameter| parameter.name.clone());
        Fault::UnusedColumn { column: column.to_owned(), parameter }
    }
}

fn check_map(wanted: &Wanted) -> Result<(), Fault> {
    for (index, (parameter, _)) in wanted.map.iter().enumerate() {
        if wanted.map[..index].iter().any(|(earlier, _)| earlier == parameter) {
            return Err(Fault::MappedTwice(parameter.clone()));
        }
        if !wanted.takes_all && !wanted.has(parameter) {
            let parameters = wanted.parameters.iter().map(|known| known.name.clone()).collect();
            return Err(Fault::UnknownParameter { parameter: parameter.clone(), parameters });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, required: bool) -> Parameter {
        Parameter { name: name.to_owned(), required, kind: None }
    }

    /// `text!` is a required parameter, `text` an optional one, `**` takes all.
    fn wanted(signature: &str) -> Wanted {
        let mut wanted = Wanted::default();
        for word in signature.split_whitespace() {
            match word.strip_suffix('!') {
                _ if word == "**" => wanted.takes_all = true,
                Some(name) => wanted.parameters.push(parameter(name, true)),
                None => wanted.parameters.push(parameter(word, false)),
            }
        }
        wanted
    }

    impl Wanted {
        fn column(mut self, column: &str) -> Self {
            self.column = Some(column.to_owned());
            self
        }

        fn map(mut self, parameter: &str, column: &str) -> Self {
            self.map.push((parameter.to_owned(), column.to_owned()));
            self
        }

        /// `parameter=column …, question: column`
        fn bind(&self, columns: &str) -> Result<String, String> {
            let columns: Vec<_> = columns.split_whitespace().map(str::to_owned).collect();
            let binding = Binding::new(self, &columns, false).map_err(|fault| fault.to_string())?;
            let mut words: Vec<_> = binding
                .arguments
                .iter()
                .map(|bound| format!("{}={}", bound.parameter, bound.column))
                .collect();
            words.extend(columns.iter().filter(|column| binding.passes(column)).cloned());
            Ok(format!("{}, question: {}", words.join(" "), binding.question.as_deref().unwrap_or("none")))
        }
    }

    #[track_caller]
    fn binds(wanted: &Wanted, columns: &str, expected: &str) {
        assert_eq!(wanted.bind(columns).as_deref(), Ok(expected));
    }

    #[test]
    fn a_parameter_takes_the_column_of_its_name_and_an_optional_one_may_go_without() {
        binds(&wanted("question! context"), "question id", "question=question, question: question");
        binds(
            &wanted("context question!"),
            "question context",
            "context=context question=question, question: question",
        );
    }

    #[test]
    fn column_feeds_the_question_and_map_beats_it() {
        binds(&wanted("question!").column("q"), "q question", "question=q, question: q");
        let mapped = wanted("question! text!").column("b").map("question", "a");
        binds(&mapped, "a b", "question=a text=b, question: a");
    }

    #[test]
    fn column_feeds_the_one_required_parameter_without_a_column() {
        binds(&wanted("text! id!").column("body"), "id body", "text=body id=id, question: body");
        assert!(wanted("text! id!").column("body").bind("body").unwrap_err().contains("no column `text`"));
    }

    #[test]
    fn a_column_that_no_parameter_takes_is_refused() {
        let refusal = wanted("text!").column("body").bind("text body").unwrap_err();
        assert!(refusal.starts_with("has a column `body` that no parameter takes"), "{refusal}");
        binds(&wanted("text!").column("text"), "text body", "text=text, question: text");
    }

    #[test]
    fn a_predictor_that_takes_all_gets_every_other_column_under_its_name() {
        binds(&wanted("question! **").column("q"), "id q question", "question=q id, question: q");
        binds(&wanted("**").column("q"), "id q question", "question=q id q, question: q");
        binds(&wanted("**"), "id question", "id question, question: question");
        binds(&wanted("**").map("text", "q"), "q", "text=q q, question: none");
    }

    #[test]
    fn without_a_question_the_first_required_parameter_is_one() {
        binds(&wanted("lang a! b!"), "b a lang", "lang=lang a=a b=b, question: a");
    }

    #[test]
    fn named_columns_must_exist() {
        assert!(wanted("question!").column("q").bind("question").unwrap_err().contains("no column `q`"));
        assert!(wanted("question! x").map("x", "y").bind("question").unwrap_err().contains("no column `y`"));
        let mut with_id = wanted("question!");
        with_id.id_column = Some("id".to_owned());
        assert_eq!(with_id.bind("question").unwrap_err(), "has no column `id`, only `question`");
    }

    #[test]
    fn a_map_must_name_a_parameter_once() {
        let refusal = wanted("question!").map("x", "question").bind("question").unwrap_err();
        assert_eq!(refusal, "cannot be mapped: the predictor has no parameter `x`, only `question`");
        let twice = wanted("x!").map("x", "a").map("x", "b").bind("a b").unwrap_err();
        assert_eq!(twice, "cannot be mapped: `--map` gives the parameter `x` twice");
    }

    #[test]
    fn other_records_of_an_open_file_may_have_the_optional_columns() {
        let columns = ["question".to_owned()];
        let binding = Binding::new(&wanted("question! lang x").map("x", "y"), &columns, true).unwrap();
        let presences: Vec<_> = binding.arguments.iter().map(|bound| bound.presence).collect();
        assert_eq!(presences, [Presence::EveryRow, Presence::Optional, Presence::SomeRow]);
        assert!(Binding::new(&wanted("text!"), &columns, true).is_err());
    }
}
