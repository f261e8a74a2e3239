//! Estimates the tokens and the cost of a job before anything is called.

use std::fmt;

use super::error::{ErrorKind, JobError};
use super::spec::MoneySpec;
use crate::bridge::Metered;
use crate::input::Validated;
use crate::policy::budget::{Bounds, Budget, Price};
use crate::policy::rate::{CHARACTERS_A_TOKEN, FIRST_OVERHEAD};
use crate::report::text::{count, counted, dollars};
use crate::usage;

/// An estimate of what one call of the predictor uses.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    metered: Option<Metered>,
    /// Tokens in a row's arguments, on average.
    arguments: f64,
    price: Option<Price>,
}

/// Refuses budgets that cannot be enforced, because the predictor does not report its tokens or has no known price.
pub(super) fn check(money: &MoneySpec, metered: Option<&Metered>) -> Result<(), JobError> {
    let Bounds { cost, tokens } = money.bounds();
    let bound = match (cost, tokens) {
        (Some(_), _) => "--max-cost",
        (_, Some(_)) => "--max-total-tokens",
        _ => return Ok(()),
    };
    let usage = |text| Err(JobError::new(ErrorKind::Usage, text));
    let Some(metered) = metered else {
        return usage(format!(
            "`{bound}` cannot bound this predictor: it does not report its tokens\n\
             hint: a `dspy.Module` does, and so does a function that asks DSPy's model, given with `--model`"
        ));
    };
    if cost.is_some() && money.price().or(metered.price).is_none() {
        let model = metered.model.as_deref().unwrap_or("the predictor's model");
        return usage(format!(
            "`--max-cost` needs a price, and none is known for `{model}`\n\
             hint: give `--price-in` and `--price-out`, in US dollars for a million tokens"
        ));
    }
    Ok(())
}

impl Estimate {
    pub(super) fn new(money: &MoneySpec, metered: Option<Metered>, validated: &Validated) -> Self {
        let rows = validated.selected.len() - validated.unaskable;
        let tokens = validated.argument_bytes as f64 / CHARACTERS_A_TOKEN as f64;
        Self { arguments: tokens / rows.max(1) as f64, ..Self::unseen(money, metered) }
    }

    /// The same before any row is seen: what a row adds to the prompt is learned from the calls.
    pub(super) fn unseen(money: &MoneySpec, metered: Option<Metered>) -> Self {
        let price = money.price().or(metered.as_ref().and_then(|metered| metered.price));
        Self { metered, arguments: 0.0, price }
    }

    /// The price of the tokens; `None` if no price is known.
    pub(super) fn price(&self) -> Option<Price> {
        self.price
    }

    /// The estimated usage of one call, including its answer. `--tpm` makes the same estimate.
    pub(super) fn a_call(&self) -> usage::Usage {
        usage::Usage {
            input: self.input().round() as u64,
            output: FIRST_OVERHEAD as u64,
            calls: 1,
            cost_usd: None,
        }
    }

    /// The whole budget; `None` if there is none.
    pub(super) fn budget(&self, money: &MoneySpec) -> Option<Budget> {
        let bounds = money.bounds();
        (!bounds.is_empty()).then(|| Budget::new(bounds, self.price(), &self.a_call()))
    }

    fn input(&self) -> f64 {
        let (requests, prompts) = self
            .metered
            .as_ref()
            .map_or((1, 0), |metered| (metered.requests, metered.prompt_characters.unwrap_or_default()));
        requests as f64 * self.arguments + (prompts / CHARACTERS_A_TOKEN) as f64
    }

    /// Estimates the tokens and the cost of this many calls.
    pub(super) fn of(&self, calls: u64) -> Estimated {
        let input_tokens = (calls as f64 * self.input()).round() as u64;
        let cost =
            |input, output| Some(self.price?.of(&usage::Usage { input, output, calls, cost_usd: None }));
        let most = self.metered.as_ref().and_then(|metered| Some((metered.max_tokens?, metered.requests)));
        let most_output_tokens = most.map(|(most, requests)| calls * requests * most);
        let input_usd = cost(input_tokens, 0);
        let most_output_usd = most_output_tokens.and_then(|tokens| cost(0, tokens));
        let prompts = self.metered.as_ref().and_then(|metered| metered.prompt_characters);
        let own = counted(self.arguments.ceil() as u64, "token");
        let how = match prompts {
            Some(characters) => {
                format!("{} of prompt and {own} of its row a call", count(characters / CHARACTERS_A_TOKEN))
            }
            None => format!("{own} of its row a call, what the predictor adds is not known"),
        };
        let mut text = format!(
            "estimate: {}, about {} in ({CHARACTERS_A_TOKEN} characters a token; {how})",
            counted(calls, "call"),
            counted(input_tokens, "token")
        );
        text += &match (input_usd, most, most_output_usd) {
            (None, ..) => "; no price is known; answers not included".to_owned(),
            (Some(input), Some((most, _)), Some(output)) => format!(
                ", {}; answers of {} at most: {} more",
                dollars(input),
                counted(most, "token"),
                dollars(output)
            ),
            (Some(input), ..) => format!(", {}; answers not included", dollars(input)),
        };
        Estimated { calls, input_tokens, input_usd, most_output_tokens, most_output_usd, text }
    }
}

/// What a number of calls is estimated to use. Its text is one line, and says how it was estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimated {
    /// The calls.
    pub calls: u64,
    /// Tokens of their prompts. What a predictor that does not report its tokens adds to its rows is not included.
    pub input_tokens: u64,
    /// US dollars for the prompts; `None` if no price is known.
    pub input_usd: Option<f64>,
    /// The most tokens that the answers can have; `None` if the predictor's model has no limit that is known.
    pub most_output_tokens: Option<u64>,
    /// US dollars for so many tokens of answers.
    pub most_output_usd: Option<f64>,
    text: String,
}

impl fmt::Display for Estimated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(price: Option<f64>) -> MoneySpec {
        MoneySpec { price_in: price, price_out: price, max_cost: None, max_total_tokens: None }
    }

    fn metered(price: Option<f64>) -> Metered {
        Metered {
            model: Some("m".to_owned()),
            price: price.map(|price| Price { input: price, output: 4.0 * price }),
            max_tokens: None,
            requests: 1,
            requests_may_differ: false,
            prompt_characters: Some(800),
        }
    }

    fn estimate(metered: Option<Metered>, price: Option<Price>) -> Estimate {
        Estimate { metered, arguments: 50.0, price }
    }

    #[test]
    fn the_estimate_says_how_it_was_made_and_what_it_leaves_out() {
        let price = Some(Price { input: 1.0, output: 4.0 });
        insta::assert_snapshot!(estimate(Some(metered(None)), price).of(10_000), @"estimate: 10,000 calls, about 2,500,000 tokens in (4 characters a token; 200 of prompt and 50 tokens of its row a call), $2.50; answers not included");
        let limited = Metered { max_tokens: Some(100), ..metered(None) };
        insta::assert_snapshot!(estimate(Some(limited), price).of(10_000), @"estimate: 10,000 calls, about 2,500,000 tokens in (4 characters a token; 200 of prompt and 50 tokens of its row a call), $2.50; answers of 100 tokens at most: $4.00 more");
        insta::assert_snapshot!(estimate(None, None).of(1), @"estimate: 1 call, about 50 tokens in (4 characters a token; 50 tokens of its row a call, what the predictor adds is not known); no price is known; answers not included");
    }

    #[test]
    fn bounds_that_could_not_be_kept_are_refused() {
        let bounded = |cost, tokens: Option<u64>, price| MoneySpec {
            max_cost: cost,
            max_total_tokens: tokens.and_then(std::num::NonZeroU64::new),
            ..money(price)
        };
        let refused = |money, metered: Option<&Metered>| check(&money, metered).is_err();
        let (known, unknown) = (metered(Some(1.0)), metered(None));
        assert!(refused(bounded(Some(1.0), None, None), Some(&unknown)));
        assert!(!refused(bounded(Some(1.0), None, Some(1.0)), Some(&unknown)));
        assert!(!refused(bounded(Some(1.0), None, None), Some(&known)));
        assert!(!refused(bounded(None, Some(1), None), Some(&unknown)));
        assert!(refused(bounded(None, Some(1), Some(1.0)), None) && !refused(money(None), None));
    }
}
