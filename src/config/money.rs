//! The options about money: what tokens cost, and what a job may use. Not how that is kept.

use std::num::NonZeroU64;

use clap::Args;

use crate::policy::budget::{Bounds, Price};

/// Prices and bounds.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Money")]
pub struct MoneyOptions {
    /// US dollars for a million prompt tokens, in place of the model's known price (with `--price-out`)
    #[arg(long, value_name = "USD", value_parser = price, requires = "price_out", env = "TAB_PRICE_IN")]
    pub price_in: Option<f64>,
    /// US dollars for a million tokens of answers (with `--price-in`)
    #[arg(long, value_name = "USD", value_parser = price, requires = "price_in", env = "TAB_PRICE_OUT")]
    pub price_out: Option<f64>,
    /// Stop before the whole job, all its sessions together, has cost more; needs a price
    #[arg(long, value_name = "USD", value_parser = cost, env = "TAB_MAX_COST")]
    pub max_cost: Option<f64>,
    /// Stop before the whole job has used more tokens, in and out
    #[arg(long, value_name = "N", env = "TAB_MAX_TOTAL_TOKENS")]
    pub max_total_tokens: Option<NonZeroU64>,
}

impl MoneyOptions {
    /// The price they make.
    pub fn price(&self) -> Option<Price> {
        Some(Price { input: self.price_in?, output: self.price_out? })
    }

    /// The bounds they make.
    pub fn bounds(&self) -> Bounds {
        Bounds { cost: self.max_cost, tokens: self.max_total_tokens.map(NonZeroU64::get) }
    }
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("expected an amount of US dollars such as `0.15`".to_owned()),
    }
}

fn cost(text: &str) -> Result<f64, String> {
    price(text).and_then(|dollars| {
        if dollars > 0.0 { Ok(dollars) } else { Err("no call fits into a budget of nothing".to_owned()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_finite_and_a_budget_is_more_than_nothing() {
        assert_eq!((price("0.15"), price("0"), cost("2")), (Ok(0.15), Ok(0.0), Ok(2.0)));
        assert!(
            ["", "-1", "inf", "NaN", "$1"].iter().all(|text| price(text).is_err() && cost(text).is_err())
        );
        assert!(cost("0").is_err());
    }
}
