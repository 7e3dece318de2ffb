//! Label selectors, as Kubernetes defines them.

use std::collections::BTreeMap;
use std::fmt;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A label selector; empty, it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Labels that must be there with these values.
    pub labels: Labels,
    /// Further requirements; all must hold.
    pub expressions: Vec<Expression>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expression {
    /// The label it is about.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// The values of `In` and `NotIn`.
    pub values: Vec<String>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// It is there with one of the values.
    In,
    /// It is absent, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
    /// An operator that this program does not know: nothing is selected, which keeps a peer out.
    Unknown,
}

impl Selector {
    /// One label with one value.
    pub fn label(key: &str, value: &str) -> Self {
        Self { labels: [(key.to_owned(), value.to_owned())].into(), expressions: Vec::new() }
    }

    /// Whether it selects an object with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| expression.holds(labels))
    }
}

impl Expression {
    fn holds(&self, labels: &Labels) -> bool {
        let found = labels.get(&self.key);
        match self.operator {
            Operator::In => found.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => found.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::Unknown => false,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let expressions = self.expressions.iter().map(|expression| {
            let Expression { key, operator, values } = expression;
            format!("{key} {operator:?} [{}]", values.join(" "))
        });
        let parts: Vec<_> = labels.chain(expressions).collect();
        if parts.is_empty() { out.write_str("all") } else { out.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_hold_as_kubernetes_says() {
        let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
        for (key, operator, values, expected) in [
            ("app", Operator::In, vec!["web", "db"], true),
            ("app", Operator::In, vec!["db"], false),
            ("tier", Operator::In, vec!["web"], false),
            ("app", Operator::NotIn, vec!["web"], false),
            ("tier", Operator::NotIn, vec!["web"], true),
            ("app", Operator::Exists, vec![], true),
            ("tier", Operator::Exists, vec![], false),
            ("tier", Operator::DoesNotExist, vec![], true),
            ("app", Operator::DoesNotExist, vec![], false),
            ("app", Operator::Unknown, vec![], false),
        ] {
            let values = values.into_iter().map(str::to_owned).collect();
            let selector =
                Selector { expressions: vec![Expression { key: key.into(), operator, values }], ..Selector::default() };
            assert_eq!(selector.selects(&labels), expected, "{selector}");
        }
        assert!(Selector::default().selects(&labels) && Selector::label("app", "web").selects(&labels));
        assert!(!Selector::label("app", "db").selects(&labels));
    }
}
