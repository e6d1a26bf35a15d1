//! "did you mean …?"

/// Texts longer than this are not compared.
const LONGEST: usize = 64;

/// The word that a misspelt one was probably meant to be.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > LONGEST {
        return None;
    }
    let plain = |word: &str| word.replace(['_', '-'], "").to_lowercase();
    let written_plain = plain(written);
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    let distances = known.map(|word| {
        let plain_word = plain(word);
        // Each letter too many or too few is one edit at least.
        let apart = written_plain.chars().count().abs_diff(plain_word.chars().count());
        (if apart > allowed { apart } else { edits(&written_plain, &plain_word) }, word)
    });
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut best = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && from[row - 1] == *other && *letter == to[column - 1] {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn misspelt_words_are_recognised() {
        let modes = || ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"].into_iter();
        assert_eq!(nearest("STRCT", modes()), Some("STRICT"));
        assert_eq!(nearest("strict", modes()), Some("STRICT"));
        assert_eq!(nearest("MUTUAL", modes()), None);
        assert_eq!(nearest("port_level_mtls", ["mtls", "portLevelMtls"].into_iter()), Some("portLevelMtls"));
        assert_eq!(nearest("slector", ["mtls", "selector"].into_iter()), Some("selector"));
        assert_eq!(nearest("sepc", ["spec", "status"].into_iter()), Some("spec"));
        assert_eq!(nearest(&"x".repeat(1000), ["x"].into_iter()), None);
    }
}
