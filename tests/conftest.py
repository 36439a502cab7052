"""Real tokenizers and tiny random models on disk, a cache of their own, and a real server on loopback."""

import json
import os
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; their subprocesses, too
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's cache is neither read nor filled, but for the float32 copy of SmolLM2, slow to make."""
    from outweigh.data.cache import cache_folder

    checkpoints = cache_folder() / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    cache = tmp_path_factory.mktemp("cache")
    (cache / "checkpoints").symlink_to(checkpoints)
    before = os.environ.get("OUTWEIGH_CACHE")
    os.environ["OUTWEIGH_CACHE"] = str(cache)
    yield cache
    os.environ.pop("OUTWEIGH_CACHE")
    if before is not None:
        os.environ["OUTWEIGH_CACHE"] = before


def _byte_tokenizer(folder, **special):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*special.values(), *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory):
    """Folder of a random 2-layer Llama; its tokenizer has no chat template, and EOS for its pad token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = _byte_tokenizer(folder, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_chat(tiny_llama, tmp_path_factory):
    """The tiny Llama with a chat template."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tiny-chat")
    shutil.copytree(tiny_llama, folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant:{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """Folder of a random 2-layer encoder with dropout in its configuration."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    tokenizer = _byte_tokenizer(
        folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", eos_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def lively_bert(tiny_bert, tmp_path_factory):
    """The same with weights that tell texts apart: as drawn, the features of all texts are nearly one."""
    import torch
    from transformers import AutoModel

    folder = tmp_path_factory.mktemp("lively-bert")
    shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
    model = AutoModel.from_pretrained(tiny_bert)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(10 if weight.dim() == 2 else 1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def wordy_pairs():
    """60 rows whose chosen response always says please: learnable by a tiny model in a few steps."""
    nouns = ["tea", "milk", "salt", "bread", "rice", "soup"]
    return [
        {
            "prompt": f"Ask for {noun} number {number}.",
            "chosen": f"Please pass the {noun}.",
            "rejected": f"Give me {noun} now.",
            "source": "even" if number % 2 == 0 else "odd",
        }
        for number in range(10)
        for noun in nouns
    ]


class Scripted(BaseHTTPRequestHandler):
    """Answers with what the test has put on the server: a list of things to do, then ordinary completions."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        if isinstance(self.server.lists, tuple):
            return self._send(*self.server.lists)
        self._send(200, {"data": [{"id": "small-model"}]} if self.server.lists else {"data": []})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((time.monotonic(), self.headers.get("Authorization"), body))
            self.server.paths.append(self.path)
            script = self.server.script.pop(0) if self.server.script else None
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        time.sleep(self.server.delay)
        with self.server.lock:
            self.server.under_way -= 1
        if script is None:
            script = self.server.answer(body)
        if str(script).startswith("wait "):
            self._send(429, b"", Retry_After=script.removeprefix("wait "))
        elif str(script).startswith("moved to "):
            self._send(301, b"", Location=script.removeprefix("moved to "))
        elif script == "hang up":
            self.connection.close()
        elif isinstance(script, tuple):
            self._send(*script)
        else:
            self._send(200, script)

    def _send(self, code, content, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def completion(body, text=None):
    """A completion as the protocol has it; the text names the prompt unless one is given."""
    said = text or f"answer to {body['messages'][-1]['content']}"
    token = {"token": "x", "logprob": -0.5}
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "stop" if index == 0 else "length",
            "logprobs": {"content": [token] * 3} if body.get("logprobs") else None,
        }
        for index in range(body.get("n", 1))
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 5, "completion_tokens": 3 * len(choices)}}


@pytest.fixture
def server():
    """`server.url`; set `server.script`, `server.answer`, `server.delay`; read `server.asked`,
    `server.paths`."""
    found = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    found.daemon_threads = True
    found.asked, found.script, found.answer, found.delay, found.lists = [], [], completion, 0.0, True
    found.under_way, found.most_under_way, found.lock, found.paths = 0, 0, threading.Lock(), []
    found.url = f"http://127.0.0.1:{found.server_address[1]}/v1"
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()
