from volant.store.page import Html, badge, bullets, page, paragraph, section, table, tiles

EVIL = '<script>alert("x")</script>&'


def test_everything_given_is_escaped_once():
    parts = [
        paragraph(EVIL),
        bullets([EVIL]),
        table([EVIL], [[EVIL]]),
        tiles([(EVIL, EVIL)]),
        badge(EVIL),
        section(EVIL),
    ]
    html = page(EVIL, "\n".join(parts), eyebrow=EVIL)
    assert "<script" not in html and "&amp;lt;" not in html
    assert html.count("&lt;script&gt;") == 11


def test_markup_stays_markup_and_backticks_become_code():
    assert table(["a"], [[Html("<b>x</b>")]]).count("<b>x</b>") == 1
    assert paragraph("set `rank` & `<b>`") == "<p>set <code>rank</code> &amp; <code>&lt;b&gt;</code></p>"


def test_a_page_needs_nothing_from_elsewhere():
    html = page("t", paragraph("x"), footer="end")
    assert "http://" not in html and "https://" not in html and "url(" not in html and "@import" not in html
    assert "prefers-color-scheme:dark" in html and "<footer>end</footer>" in html
