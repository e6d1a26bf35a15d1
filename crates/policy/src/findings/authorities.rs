//! Certificates of authorities that have ended or soon will.

use mutua_model::{Certificate, Meta};

use super::Findings;
use crate::engine::Engine;

/// A root's end is told so long before: changing a root takes as long as the longest life of a certificate below it.
const SOON: i64 = 30 * DAY;
const DAY: i64 = 86_400;

/// MUT0027 and MUT0028, at a time in seconds since 1970.
pub(super) fn check(engine: &Engine, now: i64, out: &mut Findings) {
    let mesh = engine.mesh();
    for authorities in &mesh.authorities {
        ends(&authorities.meta, &authorities.certificates, now, out);
    }
    if let Some(from) = &mesh.config.from {
        ends(from, &mesh.config.ca_certificates, now, out);
    }
}

fn ends(meta: &Meta, certificates: &[Certificate], now: i64, out: &mut Findings) {
    for certificate in certificates {
        let which = match certificates.iter().filter(|other| other.path == certificate.path).count() {
            1 => "this certificate".to_owned(),
            _ => format!("certificate {} in this field", certificate.position),
        };
        let (code, message) = if certificate.not_after < now {
            ("MUT0027", format!("{which} ended on {}: nothing that it signed is accepted", date(certificate.not_after)))
        } else if certificate.not_before > now {
            let from = date(certificate.not_before);
            ("MUT0027", format!("{which} is valid from {from} only: nothing that it signed is accepted before"))
        } else if certificate.not_after - now < SOON {
            let days = (certificate.not_after - now) / DAY;
            ("MUT0028", format!("{which} ends on {}, in {days} days", date(certificate.not_after)))
        } else {
            continue;
        };
        out.add(
            code,
            meta,
            &certificate.path,
            message,
            "put a new certificate here, and keep the old root beside it until every workload's certificate is of the new one"
                .to_owned(),
        );
    }
}

/// A day of UTC, `2026-03-01` (the calendar as in Howard Hinnant's `civil_from_days`, years from March).
fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(DAY) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_772_366_400, "2026-03-01"),
            (4_102_444_799, "2099-12-31"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }
}
