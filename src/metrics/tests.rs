use super::*;
use std::collections::BTreeMap;

/// Name, type and label names of every metric.
fn registered() -> BTreeMap<String, (String, String)> {
    let registry = Registry::new();
    let _metrics = Metrics::new(&registry).unwrap();
    let families = registry.gather();
    let describe = |family: &prometheus::proto::MetricFamily| {
        let labels: Vec<&str> = family.get_metric()[0]
            .get_label()
            .iter()
            .map(|label| label.name())
            .collect();
        let kind = format!("{:?}", family.get_field_type()).to_lowercase();
        (family.name().to_owned(), (kind, labels.join(", ")))
    };
    families.iter().map(describe).collect()
}

/// The same as `docs/METRICS.md` has it, in the rows of its tables.
fn documented() -> BTreeMap<String, (String, String)> {
    let rows = include_str!("../../docs/METRICS.md")
        .lines()
        .filter(|line| line.starts_with("| `blobgate_"));
    let unquote = |cell: &str| cell.trim().replace('`', "");
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (unquote(cells[1]), (unquote(cells[2]), unquote(cells[3])))
    })
    .collect()
}

#[test]
fn the_documented_metrics_are_the_real_ones() {
    assert_eq!(documented(), registered());
}

#[test]
fn every_label_value_is_documented() {
    let text = include_str!("../../docs/METRICS.md");
    let phases = Phase::ALL.map(Phase::as_str);
    let values = PushOutcome::ALL.map(PushOutcome::as_str);
    let faults = FaultClass::ALL.map(FaultClass::as_str);
    let operations = StoreOperation::ALL.map(StoreOperation::as_str);
    for value in values
        .iter()
        .chain(&faults)
        .chain(&operations)
        .chain(&phases)
        .chain(&METHOD_CLASSES)
        .chain(&STATUS_CLASSES)
        .chain(&ATTEMPT_OUTCOMES)
        .chain(&PROBE_ANSWERS)
        .chain(&SWEEP_PASSES)
        .chain(&SWEEP_UPLOADS)
    {
        assert!(text.contains(&format!("`{value}`")), "{value}");
    }
}

#[test]
fn every_help_text_is_a_full_sentence() {
    let registry = Registry::new();
    let _metrics = Metrics::new(&registry).unwrap();
    for family in registry.gather() {
        let help = family.help();
        let first = help.chars().next().unwrap_or_default();
        let whole = first.is_uppercase() && help.ends_with('.') && help.contains(' ');
        assert!(whole, "{}: {help:?}", family.name());
    }
}
