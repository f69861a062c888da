def test_list_names_suites_methods_and_metrics(bench):
    code, out, _ = bench("list")
    assert code == 0
    for word in ("pocket", "smoke", "vidrd", "independent-shared", "direct", "fvd", "overlap", "Gu et al. 2023"):
        assert word in out
