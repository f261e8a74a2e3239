//! What makes two sessions different jobs, in sentences.

use std::path::Path;

use super::spec::{FieldDifference, Identity};
use crate::journal::Header;
use crate::prompt::{Difference, Text};
use crate::report::text::{brief, count, counted};

/// The most differences in the prompts that are told one by one.
const TOLD: usize = 3;
/// The most characters shown of a text.
const SHOWN: usize = 60;
/// Characters shown before the place where two texts differ.
const BEFORE: usize = 20;

/// How two sessions differ as jobs. Neither the rows nor the selection of rows make a difference here.
pub(super) struct Differences {
    /// A sentence for each option that differs.
    pub options: Vec<String>,
    /// A sentence for each part of a prompt that differs.
    pub prompts: Vec<String>,
    /// The predictor's source files whose bytes differ.
    pub sources: Vec<String>,
}

/// What two sessions are to each other.
#[derive(Clone, Copy)]
pub(super) enum Sides<'a> {
    /// An earlier one of a job, and the one that is about to begin.
    Sessions,
    /// The last ones of the journals of these two answers files.
    Files(&'a Path, &'a Path),
}

impl Sides<'_> {
    /// Says of something what it is on either side. `verbs` are those of the past and of the present.
    fn say(self, what: &str, verbs: [&str; 2], was: &str, is: &str) -> String {
        let [before, now] = verbs;
        match self {
            Self::Sessions => format!("{what} {before} {was} in the earlier run and {now} {is} now"),
            Self::Files(one, other) => {
                format!("{what} {now} {was} in `{}` and {is} in `{}`", one.display(), other.display())
            }
        }
    }

    fn changed(self) -> &'static str {
        if matches!(self, Self::Sessions) { "changed" } else { "differ" }
    }
}

impl Differences {
    /// Compares the earlier session, or that of the one file, with the other.
    pub(super) fn between(before: &Header, header: &Header, sides: Sides<'_>) -> Self {
        let (earlier, now) = (Identity::recorded(before), Identity::recorded(header));
        let mut options = differing(&earlier, &now, sides);
        let (was, is) = (&before.input, &header.input);
        let option = |name: &str, was: &str, is: &str| {
            sides.say(&format!("`--{name}`"), ["was", "is"], &format!("`{was}`"), &format!("`{is}`"))
        };
        for (name, was, is) in
            [("encoding", &was.encoding, &is.encoding), ("format", &was.format, &is.format)]
        {
            if was != is {
                options.push(option(name, was, is));
            }
        }
        // In a file that was saved again with another delimiter, the rows differ.
        if was.sha256 == is.sha256 && was.delimiter != is.delimiter {
            let [was, is] =
                [was, is].map(|input| input.delimiter.unwrap_or_default().escape_debug().to_string());
            options.push(option("delimiter", &was, &is));
        }
        // Another predictor, signature or model implies other prompts.
        let same_predictor = now.is_predictor_of(&earlier)
            && (&earlier.signature, &earlier.model) == (&now.signature, &now.model);
        let (prompts, sources) = match (&before.prompt, &header.prompt) {
            _ if !same_predictor => (Vec::new(), Vec::new()),
            (Some(was), Some(is)) => {
                let mut sources: Vec<_> = was.changed_sources(is).map(str::to_owned).collect();
                // It may come from another file than before, or from none.
                if sources.is_empty() && was.is_rewritten(is) {
                    sources.push(now.predictor.clone());
                }
                (sentences(&was.differences(is), sides), sources)
            }
            _ if before.predictor_sha256 != header.predictor_sha256 => {
                let spec = &*now.predictor;
                (Vec::new(), vec![spec.rsplit_once(':').map_or(spec, |(file, _)| file).to_owned()])
            }
            _ => (Vec::new(), Vec::new()),
        };
        Self { options, prompts, sources }
    }
}

/// A sentence for each option that makes this another job.
fn differing(before: &Identity, now: &Identity, sides: Sides<'_>) -> Vec<String> {
    let shown = |value: &str| if value.is_empty() { "not given".to_owned() } else { format!("`{value}`") };
    let object = |identity: &Identity| if identity.object { "the Python object " } else { "" };
    let sentence = |FieldDifference { name, was, is }: FieldDifference<'_>| {
        if name == "predictor" && (before.object || now.object) {
            let (was, is) = (format!("{}`{was}`", object(before)), format!("{}`{is}`", object(now)));
            return sides.say("the predictor", ["was", "is"], &was, &is);
        }
        sides.say(&format!("`--{name}`"), ["was", "is"], &shown(was), &shown(is))
    };
    now.differences(before).into_iter().map(sentence).collect()
}

/// A sentence for each of the first differences, and one for the rest.
fn sentences(differences: &[Difference<'_>], sides: Sides<'_>) -> Vec<String> {
    let sentence = |difference: &Difference<'_>| match (difference, sides) {
        (Difference::New(name), Sides::Sessions) => {
            format!("the module has a predictor `{name}` that it did not have")
        }
        (Difference::Gone(name), Sides::Sessions) => {
            format!("the module no longer has its predictor `{name}`")
        }
        (Difference::New(name), Sides::Files(_, file)) | (Difference::Gone(name), Sides::Files(file, _)) => {
            format!("only in `{}` has the module a predictor `{name}`", file.display())
        }
        (Difference::Part { was, is, .. }, _) if was.text == is.text => {
            let characters = count(is.text.chars().count() as u64);
            format!("the {difference} {} after the first {characters} characters", sides.changed())
        }
        (Difference::Part { part, was, is, .. }, _) => {
            let [was, is] = apart(was, is).map(|text| format!("`{text}`"));
            let verbs = if *part == "signature" { ["was", "is"] } else { ["were", "are"] };
            sides.say(&format!("the {difference}"), verbs, &was, &is)
        }
    };
    let mut sentences: Vec<_> = differences.iter().take(TOLD).map(sentence).collect();
    if let Some(more) = differences.len().checked_sub(TOLD).filter(|more| *more > 0) {
        sentences.push(format!("{} of its prompts {}", counted(more as u64, "other part"), sides.changed()));
    }
    sentences
}

/// Shortens two texts to what surrounds the place where they differ.
fn apart(was: &Text, is: &Text) -> [String; 2] {
    let same = was.text.chars().zip(is.text.chars()).take_while(|(was, is)| was == is).count();
    let words = was.text.chars().take(same.saturating_sub(BEFORE)).collect::<String>();
    // Texts that differ near the beginning are shown from the beginning.
    let skipped = words.rfind([' ', '\n']).filter(|skipped| *skipped > BEFORE).map_or(0, |at| at + 1);
    [was, is].map(|text| {
        let before = if skipped > 0 { "…" } else { "" };
        format!("{before}{}", brief(&text.text[skipped..], SHOWN))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::tests::prompt;

    #[test]
    fn what_is_no_longer_given_makes_another_job() {
        let before = Identity { program: "sha256 1".to_owned(), ..Identity::default() };
        let now = Identity::default();
        let differs = ["`--program` was `sha256 1` in the earlier run and is not given now"];
        assert_eq!(differing(&before, &now, Sides::Sessions), differs);
        assert!(differing(&before, &before, Sides::Sessions).is_empty());
    }

    #[test]
    fn two_prompts_are_shown_from_where_they_differ() {
        let said =
            |was: &str, is: &str| sentences(&prompt(was, "1").differences(&prompt(is, "1")), Sides::Sessions);
        assert_eq!(
            said("Answer briefly.", "Answer in\nFrench."),
            [
                "the instructions of `predict` were `Answer briefly.` in the earlier run and are `Answer in French.` now"
            ]
        );
        let long = "Read the question twice before you answer it, then answer ";
        let [sentence] = &said(&format!("{long}briefly."), &format!("{long}in French."))[..] else {
            panic!()
        };
        assert!(sentence.contains("were `…answer it, then answer briefly.` in"), "{sentence}");
        assert!(sentence.ends_with("and are `…answer it, then answer in French.` now"), "{sentence}");
        let [sentence] = &said(&"a ".repeat(2_000), &"a ".repeat(2_001))[..] else { panic!() };
        assert_eq!(sentence, "the instructions of `predict` changed after the first 2,000 characters");
    }

    #[test]
    fn of_two_files_each_is_named() {
        let sides = Sides::Files(Path::new("a.csv"), Path::new("b.csv"));
        let before = Identity { model: "openai/a".to_owned(), ..Identity::default() };
        let differs = ["`--model` is `openai/a` in `a.csv` and not given in `b.csv`"];
        assert_eq!(differing(&before, &Identity::default(), sides), differs);
        let said = sentences(&prompt("Be brief.", "1").differences(&prompt("Be kind.", "1")), sides);
        let differs = ["the instructions of `predict` are `Be brief.` in `a.csv` and `Be kind.` in `b.csv`"];
        assert_eq!(said, differs);
    }
}
