//! Figures of a benchmark: medians with the smallest and the largest beside them, and rows that set one kind beside another.
//!
//! Nothing here passes or fails. Input are values of one run; output is Markdown for people.

/// The value in the middle; of an even number the larger of the two. `NaN` of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// `1.23 (1.10–1.50)`, or the one value alone.
fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values);
    match values.len() {
        0 => "–".into(),
        1 => format!("{middle:.digits$}"),
        _ => format!("{middle:.digits$} ({least:.digits$}–{most:.digits$})"),
    }
}

/// The head of the table whose rows [`row`] makes.
pub const HEAD: &str = "| | runc | machine, cold | machine, clone | cold : runc | clone : runc |\n|---|---|---|---|---|---|";

/// One line: what was measured of pods on runc, in machines that booted and in clones, and the ratios of their medians where there are any.
pub fn row(what: &str, [runc, cold, clone]: [&[f64]; 3], digits: usize) -> String {
    let ratio = |of: &[f64]| {
        let ratio = median(of) / median(runc);
        if ratio.is_finite() { format!("{ratio:.1}") } else { "–".into() }
    };
    let [a, b, c] = [runc, cold, clone].map(|values| spread(values, digits));
    format!("| {what} | {a} | {b} | {c} | {} | {} |", ratio(cold), ratio(clone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expect) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 2.0, 3.0], 3.0), (&[7.0], 7.0)] {
            assert!((median(values) - expect).abs() < 1e-9, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn rows() {
        let all = [&[1.0, 2.0, 1.5][..], &[3.0, 4.0, 3.5], &[2.0]];
        assert_eq!(row("a", all, 1), "| a | 1.5 (1.0–2.0) | 3.5 (3.0–4.0) | 2.0 | 2.3 | 1.3 |");
        assert_eq!(row("b", [&[], &[3.0], &[]], 2), "| b | – | 3.00 | – | – | – |");
        assert_eq!(row("c", [&[0.0], &[3.0], &[0.0]], 0), "| c | 0 | 3 | 0 | – | – |");
    }
}
