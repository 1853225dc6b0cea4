from evaluate import as_json, caption_all, evaluate_pictures, format_results  # noqa: F401
