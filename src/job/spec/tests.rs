//! Tests of a spec as words and as JSON, and of patches laid over it.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;
use std::time::Duration;

use clap::FromArgMatches;
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::input::Format;
use crate::job::error::ErrorKind;
use crate::policy::limits::MaxFailures;
use crate::selection::Shard;

fn spec() -> JobSpec {
    JobSpec::new(Path::new("/jobs"), Path::new("q.csv"), Format::Csv)
}

/// The patch of a command line with these words.
fn patch(words: &[&str]) -> WholePatch {
    let matches = keywords::command::<WholePatch>().try_get_matches_from(words).unwrap();
    WholePatch::from_arg_matches(&matches).unwrap()
}

fn laid(words: &[&str]) -> JobSpec {
    let mut spec = spec();
    spec.lay_all(patch(words), Path::new("/jobs"));
    spec
}

/// The command line that gives a spec.
fn command_line(spec: &JobSpec) -> Vec<String> {
    let words = spec.words().into_iter();
    let given = words.flat_map(|(name, values)| {
        let given = move |value: String| {
            if value == "true" { format!("--{name}") } else { format!("--{name}={value}") }
        };
        values.into_iter().map(given)
    });
    given.collect()
}

prop_compose! {
    fn predictors()(
        predictor in "[a-z]{1,8}\\.py:[a-z]{1,8}",
        signature in "[a-z ]{1,9}-> [a-z]{1,9}",
        program in of("/[a-z]{1,9}\\.json"),
        model in of("[a-z]{1,9}/[a-z0-9-]{1,9}"),
        api_base in of("https?://[a-z]{1,9}/v1"),
        lm in proptest::collection::btree_map("[a-z_]{1,9}", "[^\0]{0,9}", 0..3),
        python in of("/[a-z]{1,9}/python"),
        event_loop in prop_oneof![Just(LoopChoice::Auto), Just(LoopChoice::Asyncio), Just(LoopChoice::Uvloop)],
    ) -> PredictorSpec {
        let mut spec = PredictorSpec {
            predictor, signature, model, event_loop,
            program: program.map(Into::into),
            api_base: api_base.map(ApiBase),
            python: python.map(Into::into),
            ..PredictorSpec::default()
        };
        spec.lm.lay(lm.into_iter().collect());
        spec
    }
}

prop_compose! {
    fn rows()(
        column in of("[a-z]{1,9}"),
        map in proptest::collection::vec(("[a-z]{1,9}", "[a-zé ]{0,9}"), 0..3),
        limit in of(any::<u64>()),
        shard in of((0..9_u64, 9..99_u64)),
        range in of((any::<u32>(), 1..u64::from(u32::MAX))),
        delimiter in of(prop_oneof![Just(b';'), Just(b'\t'), Just(b'|')]),
        encoding in prop_oneof![Just(encoding_rs::UTF_8), Just(encoding_rs::UTF_16LE), Just(encoding_rs::WINDOWS_1252)],
    ) -> RowSpec {
        let range = range.map(|(start, rows)| u64::from(start)..u64::from(start) + rows);
        let limit = limit.filter(|_| range.is_none());
        let shard = shard.map(|(number, of)| Shard::new(number, of).unwrap());
        RowSpec { column, map, limit, range, shard, delimiter, encoding, ..RowSpec::default() }
    }
}

prop_compose! {
    fn rays()(
        ray in prop_oneof![Just("none"), Just("auto"), Just("local"), Just("head:6379")],
        actors in of(any::<NonZeroU32>()),
        shares in (of(0.0..1e3_f64), of(0.0..1e3_f64)),
        resources in proptest::collection::vec(("[a-z]{1,9}", 0.0..1e3_f64), 0..3),
        runtime_env in of("/[a-z]{1,9}\\.yaml"),
        env in proptest::collection::vec("[A-Z_]{1,9}", 0..3),
    ) -> RaySpec {
        RaySpec {
            ray: ray.parse().unwrap(),
            ray_actors: actors,
            ray_cpus: shares.0,
            ray_gpus: shares.1,
            ray_resources: resources,
            ray_runtime_env: runtime_env.map(Into::into),
            ray_env: env,
        }
    }
}

prop_compose! {
    fn specs()(
        predictor in predictors(),
        rows in rows(),
        calls in (any::<bool>(), 1..1_000_000_usize),
        rates in (of(any::<NonZeroU32>()), of(any::<NonZeroU32>())),
        workers in (0..=1_000_u32, of(1..u64::MAX)),
        ray in rays(),
        spans in proptest::collection::vec(1..1_000_000_000_u64, 6),
        retries in any::<u32>(),
        failures in of(prop_oneof![
            any::<u64>().prop_map(MaxFailures::Rows),
            (0.0..=100.0_f64).prop_map(MaxFailures::Percent),
        ]),
        price in of((0.0..1e9_f64, 0.0..1e9_f64)),
        bounds in (of(0.1..1e9_f64), of(any::<NonZeroU64>())),
        fields in of(proptest::collection::btree_set("[a-z]{1,9}", 1..4)),
        (html, private) in any::<(bool, bool)>(),
    ) -> JobSpec {
        let span = |at: usize| Duration::from_millis(spans[at]);
        JobSpec {
            predictor,
            rows,
            pace: PaceSpec { mode: if calls.0 { Mode::Sequential } else { Mode::Concurrent }, concurrency: calls.1 },
            rates: RateSpec { rpm: rates.0, tpm: rates.1 },
            workers: WorkerSpec {
                workers: NonZeroU32::new(workers.0).map_or(WorkerCount::Auto, WorkerCount::Number),
                worker_max_rss: workers.1.map(Size),
            },
            ray,
            time: TimeSpec {
                timeout: span(0), row_timeout: Some(span(1)), deadline: None, stuck_after: span(2), grace: span(3),
            },
            retry: RetrySpec { retries, backoff: span(4), backoff_max: span(5), cut_off: CutOffChoice::Fail },
            stop: StopSpec { max_failures: failures },
            money: MoneySpec {
                price_in: price.map(|price| price.0),
                price_out: price.map(|price| price.1),
                max_cost: bounds.0,
                max_total_tokens: bounds.1,
            },
            fields: FieldSpec { fields: fields.map(|names| FieldNames(names.into_iter().collect())) },
            page: PageSpec { html },
            access: AccessSpec { private },
            ..spec()
        }
    }
}

proptest! {
    #[test]
    fn a_spec_is_the_same_after_words_and_after_json(spec in specs()) {
        let words = command_line(&spec);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut again = self::spec();
        again.lay_all(patch(&words), Path::new("/jobs"));
        // The secrets among the arguments may have changed their places.
        let sorted = |spec: &JobSpec| {
            let mut given: Vec<_> = spec.predictor.lm.given().map(|(name, value)| format!("{name}={value}")).collect();
            given.sort();
            given
        };
        prop_assert_eq!(sorted(&again), sorted(&spec));
        again.predictor.lm = spec.predictor.lm.clone();
        prop_assert_eq!(&again, &spec);

        let mut plain = spec;
        let given: Vec<_> = plain.predictor.lm.plain().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        plain.predictor.lm = LmArguments::default();
        plain.predictor.lm.lay(given);
        let read: JobSpec = serde_json::from_str(&serde_json::to_string(&plain).unwrap()).unwrap();
        prop_assert_eq!(read, plain);
    }
}

#[test]
fn what_is_given_replaces_what_was_recorded() {
    let mut spec = laid(&["--map=a=b", "--map=c=d", "-n", "5", "--sequential", "--no-html", "--timeout=1s"]);
    spec.lay_all(patch(&["--map=e=f", "--range=2:4", "--concurrent"]), Path::new("/jobs"));
    assert_eq!(spec.rows.map, [("e".to_owned(), "f".to_owned())]);
    assert_eq!((spec.rows.limit, spec.rows.selection()), (None, (2..4).into()));
    assert_eq!((spec.pace.mode, spec.page.html), (Mode::Concurrent, false));
    assert_eq!(spec.time.timeout, Duration::from_secs(1));
}

#[test]
fn calls_are_made_in_workers_or_on_a_cluster_whichever_was_given_last() {
    let mut spec = laid(&["--ray", "--ray-actors=3", "--ray-env=A,B", "--ray-env", "C"]);
    let of = |spec: &JobSpec| (spec.ray.ray.clone(), spec.workers.workers);
    assert_eq!(of(&spec), (RayAddress::Auto, WorkerCount::InProcess));
    assert_eq!(spec.ray.ray_env, ["A", "B", "C"]);
    spec.lay_all(patch(&["--workers=auto"]), Path::new("/jobs"));
    assert_eq!(of(&spec), (RayAddress::None, WorkerCount::Auto));
    spec.lay_all(patch(&["--ray=local", "--ray-runtime-env=env.yaml"]), Path::new("/else"));
    assert_eq!(of(&spec), (RayAddress::Local, WorkerCount::InProcess));
    assert_eq!(
        (spec.ray.ray_actors, spec.ray.ray_runtime_env),
        (NonZeroU32::new(3), Some("/else/env.yaml".into()))
    );
}

#[test]
fn paths_belong_to_the_directory_they_are_given_in() {
    let mut spec = laid(&["--program=p.json", "--predictor=a.py:f", "--python=python3.12"]);
    let of = |spec: &JobSpec| {
        let PredictorSpec { predictor, program, python, .. } = &spec.predictor;
        (predictor.clone(), program.clone().unwrap(), python.clone().unwrap())
    };
    assert_eq!(of(&spec), ("a.py:f".to_owned(), "/jobs/p.json".into(), "python3.12".into()));
    spec.lay_all(patch(&["--predictor=a.py:f", "--python=bin/python"]), Path::new("/else"));
    assert_eq!(of(&spec), ("/else/a.py:f".to_owned(), "/jobs/p.json".into(), "/else/bin/python".into()));
    spec.lay_all(patch(&["--predictor=a.py:f"]), Path::new("/jobs/deeper"));
    assert_eq!(spec.predictor.predictor, "deeper/a.py:f");
}

#[test]
fn modules_and_signatures_that_are_written_out_are_no_files() {
    for text in ["package.module:predict", "image: dspy.Image, question -> answer: str"] {
        let mut spec = spec();
        spec.lay_all(patch(&["--predictor", text, "--signature", text]), Path::new("/else"));
        assert_eq!((&*spec.predictor.predictor, &*spec.predictor.signature), (text, text));
        // Also where the process is in another directory than the job.
        assert_eq!(spec.predictor.from(Path::new("/jobs")), spec.predictor);
    }
}

#[test]
fn paths_are_absolute_from_the_beginning() {
    let mut spec = JobSpec::new(Path::new("jobs"), Path::new("q.csv"), Format::Csv);
    let directory = std::env::current_dir().unwrap().join("jobs");
    assert_eq!((&spec.directory, &spec.input), (&directory, &directory.join("q.csv")));
    spec.input = "other.csv".into();
    spec.predictor.program = Some("p.json".into());
    spec.predictor.python = Some("bin/python".into());
    let spec = spec.anchored();
    assert_eq!(spec.input, directory.join("other.csv"));
    assert_eq!(spec.predictor.program, Some(directory.join("p.json")));
    assert_eq!(spec.predictor.python, Some(directory.join("bin/python")));
}

#[test]
fn secrets_are_never_serialized_or_shown() {
    let spec = laid(&["--lm=api_key=sk-123456", "--api-base=http://ada:lovelace@host/v1"]);
    let text = serde_json::to_string(&spec).unwrap();
    for text in [&text, &format!("{spec:?}")] {
        assert!(text.contains("api_key") && text.contains("@host/v1"), "{text}");
        assert!(!text.contains("sk-123456") && !text.contains("lovelace"), "{text}");
    }
    let read: JobSpec = serde_json::from_str(&text).unwrap();
    assert_eq!(read.predictor.missing().unwrap(), "--lm api_key=…");
    let laid = |words: &[&str]| {
        let mut spec = read.clone();
        spec.lay_all(patch(words), Path::new("/"));
        spec.predictor.missing()
    };
    assert_eq!(laid(&["--lm=api_key=sk-1"]).unwrap(), "--api-base http://***@host/v1");
    assert_eq!(laid(&["--lm=api_key=sk-1", "--api-base=http://ada:lovelace@host/v1"]), None);
}

#[test]
fn an_object_is_known_by_its_name_and_by_the_end_of_it_where_it_may_have_moved() {
    let named =
        |predictor: &str, object| Identity { predictor: predictor.to_owned(), object, ..Identity::default() };
    let same =
        |(was, is): ((&str, bool), (&str, bool))| named(is.0, is.1).is_predictor_of(&named(was.0, was.1));
    let (object, spec) = (true, false);
    for pair in [
        (("app:answer", object), ("app:answer", object)),
        (("<notebook>:answer", object), ("app.py:answer", spec)),
        (("app.py:answer", spec), ("app:make.<locals>.answer", object)),
        (("<notebook>:answer", object), ("app:answer", object)),
        (("app:<lambda>", object), ("__main__:<lambda>", object)),
    ] {
        assert!(same(pair) && same((pair.1, pair.0)), "{pair:?}");
    }
    for pair in [
        (("app:answer", object), ("other:answer", object)),
        (("app.py:answer", spec), ("other.py:answer", spec)),
        (("<notebook>:answer", object), ("app.py:reply", spec)),
        (("<notebook>:answer", object), ("dspy", spec)),
    ] {
        assert!(!same(pair) && !same((pair.1, pair.0)), "{pair:?}");
    }
}

#[test]
fn a_spec_takes_the_place_of_an_object_and_a_journal_from_before_has_none() {
    let mut spec = JobSpec::new(Path::new("/work"), Path::new("q.csv"), Format::Csv);
    assert!(serde_json::to_value(&spec).unwrap().get("object").is_none());
    spec.object = true;
    let read: JobSpec = serde_json::from_value(serde_json::to_value(&spec).unwrap()).unwrap();
    assert_eq!(read.clone().with(None).unwrap_err().kind(), ErrorKind::Usage);
    let found = JobSpec { object_spec: Some("lib/app.py:answer".to_owned()), ..read };
    let found: JobSpec = serde_json::from_value(serde_json::to_value(&found).unwrap()).unwrap();
    let found = found.with(None).unwrap();
    assert_eq!(
        (&*found.predictor.predictor, found.object, found.object_spec),
        ("lib/app.py:answer", false, None)
    );
    let mut patch = WholePatch::default();
    spec.lay_all(patch.clone(), Path::new("/work"));
    assert!(spec.object, "nothing was given in its place");
    patch.shared.predictor.predictor = Some("app.py:answer".to_owned());
    spec.lay_all(patch, Path::new("/work"));
    assert!(spec.with(None).is_ok_and(|spec| !spec.object && spec.predictor.predictor == "app.py:answer"));
}
