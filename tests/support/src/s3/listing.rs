use std::collections::BTreeSet;

/// One page of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) common_prefixes: Vec<String>,
    /// Whether more follows.
    pub(crate) truncated: bool,
    /// The key or common prefix the page ends with.
    pub(crate) last: Option<String>,
}

/// What to list.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
    pub(crate) limit: usize,
}

/// S3's way of listing: keys with a prefix, those beyond a delimiter folded into one common
/// prefix, which counts as one entry of the page.
///
/// `after` is where the last page ended: entries up to it are left out, and so is a common prefix
/// that the last page ended with.
pub(crate) fn page<'k, T>(
    entries: impl Iterator<Item = (&'k str, T)>,
    query: &Query<'_>,
    after: &str,
) -> Page<T> {
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty());
    let mut page = Page {
        items: Vec::new(),
        common_prefixes: Vec::new(),
        truncated: false,
        last: None,
    };
    let mut folded = BTreeSet::new();
    for (key, item) in entries {
        let Some(rest) = key.strip_prefix(query.prefix) else {
            continue;
        };
        let common = delimiter.and_then(|delimiter| {
            let at = rest.find(delimiter)?;
            Some(&key[..query.prefix.len() + at + delimiter.len()])
        });
        if common.is_some_and(|common| folded.contains(common) || common <= after) {
            continue;
        }
        if page.items.len() + page.common_prefixes.len() == query.limit {
            page.truncated = query.limit > 0;
            break;
        }
        match common {
            Some(common) => {
                folded.insert(common);
                page.common_prefixes.push(common.to_owned());
            }
            None => page.items.push(item),
        }
        page.last = Some(common.unwrap_or(key).to_owned());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(keys: &[&'static str], query: &Query<'_>, after: &str) -> Page<&'static str> {
        let after_keys = keys.iter().filter(|key| **key > after);
        page(after_keys.map(|key| (*key, *key)), query, after)
    }

    #[test]
    fn a_delimiter_folds_keys_and_pages_count_the_folds() {
        let keys = ["a/1", "a/2", "b", "c/1", "d"];
        let query = Query {
            delimiter: Some("/"),
            limit: 2,
            ..Query::default()
        };
        let first = list(&keys, &query, "");
        assert_eq!(first.common_prefixes, ["a/"]);
        assert_eq!(first.items, ["b"]);
        assert!(first.truncated);

        let second = list(&keys, &query, first.last.as_deref().unwrap());
        assert_eq!(second.common_prefixes, ["c/"]);
        assert_eq!(second.items, ["d"]);
        assert!(!second.truncated);
    }

    #[test]
    fn a_page_may_end_with_a_fold() {
        let keys = ["a/1", "a/2", "b"];
        let query = Query {
            delimiter: Some("/"),
            limit: 1,
            ..Query::default()
        };
        let first = list(&keys, &query, "");
        assert_eq!(first.last.as_deref(), Some("a/"));
        assert!(first.truncated);
        assert_eq!(list(&keys, &query, "a/").items, ["b"]);
    }
}
