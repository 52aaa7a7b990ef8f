//! What becomes of the measurements: JSON with every sample, a page of tables, plots.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::results::Results;
use crate::targets::{self, Target};

mod markdown;
mod plots;

pub use markdown::targets;
pub use plots::prepare;

/// Between these the page's results are replaced.
const BEGIN: &str = "<!-- results: begin -->";
const END: &str = "<!-- results: end -->";

#[derive(Serialize)]
struct Document<'a> {
    targets: Vec<Target>,
    #[serde(flatten)]
    results: &'a Results,
}

/// `results.json`, `results.md`, and the plots as SVG and PNG.
pub fn write(results: &Results, out: &Path) -> Result<()> {
    let document = Document {
        targets: targets::all(results),
        results,
    };
    fs::write(
        out.join("results.json"),
        serde_json::to_vec_pretty(&document)?,
    )?;
    let plots = plots::write_png(results, out)?;
    plots::write_svg(results, out)?;
    let page = format!(
        "# blobgate, measured\n\n{}",
        markdown::page(results, &plots, "")
    );
    fs::write(out.join("results.md"), page)?;
    Ok(())
}

/// Puts the results between the page's marks, and the plots into a folder `performance` beside it.
pub fn write_docs(results: &Results, page: &Path) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = marks.ok_or_else(|| format!("{}: no {BEGIN} … {END}", page.display()))?;
    let dir = page.with_file_name("performance");
    fs::create_dir_all(&dir)?;
    let plots = plots::write_svg(results, &dir)?;
    // Below a heading of the page's own.
    let results = markdown::page(results, &plots, "performance/").replace("## ", "### ");
    fs::write(page, format!("{before}{BEGIN}\n\n{results}\n{END}{after}"))?;
    Ok(())
}
