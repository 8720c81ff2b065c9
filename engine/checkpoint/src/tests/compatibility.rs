//! Manifests that older versions have written are read by this one. Each is kept as it was, byte for byte.

use tidemill_core::source::Offset;
use tidemill_core::watermark::WatermarkStrategy;

use crate::manifest::Manifest;

/// Of a job with a filter, a window and two sinks; of before manifests held the query in words.
const WITHOUT_QUERY: &[u8] = include_bytes!("fixtures/manifest-1-without-query");

#[test]
fn a_manifest_without_the_query_is_read_and_written_again_with_all_it_says() {
    let manifest = Manifest::decode(WITHOUT_QUERY).unwrap();
    assert_eq!((manifest.job.as_str(), manifest.epoch, manifest.shards), ("evo", 10, 2));
    assert_eq!(manifest.query, None);
    let print = &manifest.fingerprint.0["window(totals)"];
    assert!(print.contains("by [up@2 AS up]: [native count(1)"), "{print}");
    let split = &manifest.sources[0].splits[0];
    assert_eq!(split.offset, Offset("22687@1795254764254313".into()));
    assert_eq!((split.records, split.dropped, split.ended), (22_687, 0, false));
    let newest = split.watermark.watermark(&WatermarkStrategy::bounded(0));
    assert_eq!(newest, 1_795_254_775_597_313);
    assert!(manifest.files().count() > 0 && !manifest.finished);
    assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
}
