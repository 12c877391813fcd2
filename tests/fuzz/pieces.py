"""Pieces of random programs: each maps a hidden tensor `h`, (N, T, D), to another of that shape.

Written as source, so that a program that fails can be printed and run. In the templates `@i` is
the number of the piece, `@p` a rate, `@d` the width D and `@t` the length T; `r` is a hidden tensor
that an earlier piece kept. No piece needs another, so that the shrinker may drop any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DROPS", "OUTPUTS", "PLAIN", "Output", "Piece"]


@dataclass(frozen=True)
class Piece:
    """One step of a forward pass.

    Attributes:
        name: What it stands for.
        forward: Lines of `forward`.
        init: Lines of `__init__`.
        top: Definitions at the top of the file.
        own: Whether the code draws its own random numbers to drop units: such modules count as
            one site, however often they draw.
        raw: Random numbers it draws whether training or not.
        state: Whether it changes attributes or buffers of the model.
    """

    name: str
    forward: str
    init: str = ""
    top: str = ""
    own: bool = False
    raw: int = 0
    state: bool = False


def _drop(name: str, forward: str, init: str = "", top: str = "", *, own: bool = False) -> Piece:
    return Piece(name, forward, init, top, own=own)


_HELPER = """
def drop_rows(x, p, training=False):
    if not training or p == 0.0:
        return x
    keep = torch.rand(x.shape[0], 1, 1) >= p
    return x * keep / (1 - p)
"""
_FORWARDED = """
def forwarded(x, p, *, training):
    return F.dropout(x, p=p, training=training)
"""
_GATED = """
class Gated(nn.Dropout):
    def forward(self, x):
        if not self.training:
            return x
        return super().forward(x)
"""
_DROP_PATH = """
class DropPath(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        if self.p == 0.0 or not self.training:
            return x
        return x * x.new_empty((x.shape[0], 1, 1)).bernoulli_(1 - self.p).div_(1 - self.p)
"""
_BLOCK = """
class Block(nn.Module):
    def __init__(self, d, p):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(d), nn.Linear(d, d)
        self.p = p

    def forward(self, x):
        return x + F.dropout(F.gelu(self.inner(self.norm(x))), self.p, self.training)
"""
_FUNCTION = """
class Squashed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x / (1 + x.abs())

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad / (1 + x.abs()) ** 2
"""
_ATTENTION = """
class Attention(nn.Module):
    def __init__(self, d, p):
        super().__init__()
        self.qkv, self.p = nn.Linear(d, 3 * d), p

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        p = self.p if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=p)
"""

DROPS = (
    _drop("module", "h = self.drop@i(h)", "self.drop@i = nn.Dropout(@p)"),
    _drop("module, in place", "h = self.drop@i(h)", "self.drop@i = nn.Dropout(@p, inplace=True)"),
    _drop("module, called twice", "h = self.drop@i(h) + self.drop@i(r)",
          "self.drop@i = nn.Dropout(@p)"),
    _drop("channels", "h = self.drop@i(h)", "self.drop@i = nn.Dropout1d(@p)"),
    _drop("alpha", "h = self.drop@i(h)", "self.drop@i = nn.AlphaDropout(@p)"),
    _drop("function", "h = F.dropout(h, @p, self.training)"),
    _drop("function, always on", "h = F.dropout(h, @p)"),
    _drop("low-level function", "h = torch.dropout(h, @p, self.training)"),
    _drop("function by keyword", "h = F.dropout(input=h, p=@p, training=self.training)"),
    _drop("function in place", "h = F.dropout(h, @p, self.training, inplace=True)"),
    _drop("function in place, result ignored",
          "h = h * 1.5\nF.dropout(h, @p, self.training, inplace=True)"),
    _drop("in place through a slice",
          "h = h * 1.5\nF.dropout(h[..., :2], @p, self.training, inplace=True)"),
    _drop("in place through a view",
          "h = h.clone(memory_format=torch.contiguous_format)\n"
          "F.dropout(h.view(-1), @p, self.training, inplace=True)"),
    _drop("in place through detach",
          "h = h * 1.5\nF.dropout(h.detach(), @p, self.training, inplace=True)"),
    _drop("rate times flag", "h = F.dropout(h, @p * self.training)"),
    _drop("rate or zero", "p = @p if self.training else 0.0\nh = F.dropout(h, p)"),
    _drop("flag in a variable", "t = self.training\nif t:\n    h = F.dropout(h, @p)"),
    _drop("if and else",
          "if self.training:\n    h = F.dropout(h, @p)\nelse:\n    h = h"),
    _drop("flag of a child", "h = F.dropout(h, @p, self.drop@i.training)",
          "self.drop@i = nn.Dropout(@p)"),
    _drop("helper with a keyword", "h = forwarded(h, @p, training=self.training)", top=_FORWARDED),
    _drop("helper that returns early", "h = drop_rows(h, @p, training=self.training)",
          top=_HELPER, own=True),
    _drop("subclass that returns early", "h = self.drop@i(h)", "self.drop@i = Gated(@p)", _GATED),
    _drop("DropPath", "h = r + self.drop@i(h)", "self.drop@i = DropPath(@p)", _DROP_PATH, own=True),
    _drop("mask by bernoulli",
          "if self.training:\n"
          "    h = h * torch.bernoulli(torch.full_like(h, 1 - @p)) / (1 - @p)", own=True),
    _drop("mask by rand",
          "if self.training:\n    h = h * (torch.rand_like(h) >= @p) / (1 - @p)", own=True),
    _drop("weights",
          "h = F.linear(h, F.dropout(self.lin@i.weight, @p, self.training), self.lin@i.bias)",
          "self.lin@i = nn.Linear(@d, @d)"),
    _drop("partial", "h = self.drop@i(h, training=self.training)",
          "self.drop@i = functools.partial(F.dropout, p=@p)"),
    _drop("lambda", "h = self.drop@i(h)",
          "self.drop@i = lambda x: F.dropout(x, @p, self.training)"),
    _drop("no gradient", "with torch.no_grad():\n    s = self.drop@i(h)\nh = r + s",
          "self.drop@i = nn.Dropout(@p)"),
    _drop("sequence of modules", "h = self.body@i(h)",
          "self.body@i = nn.Sequential(nn.Linear(@d, @d), nn.ReLU(), nn.Dropout(@p),\n"
          "                          nn.Linear(@d, @d))"),
    _drop("residual block", "h = self.block@i(h)", "self.block@i = Block(@d, @p)", _BLOCK),
    _drop("block used twice", "h = self.block@i(self.block@i(h))", "self.block@i = Block(@d, @p)",
          _BLOCK),
    _drop("LSTM", "h = self.rnn@i(h)[0]",
          "self.rnn@i = nn.LSTM(@d, @d, 2, batch_first=True, dropout=@p)"),
    _drop("GRU both ways", "h = self.rnn@i(h)[0]",
          "self.rnn@i = nn.GRU(@d, @d // 2, 2, batch_first=True, dropout=@p, bidirectional=True)"),
    _drop("RNN, time first", "h = self.rnn@i(h.transpose(0, 1))[0].transpose(0, 1)",
          "self.rnn@i = nn.RNN(@d, @d, 3, dropout=@p)"),
    _drop("multi-head attention", "h = self.att@i(h, h, r)[0]",
          "self.att@i = nn.MultiheadAttention(@d, 2, dropout=@p, batch_first=True)"),
    _drop("encoder layer", "h = self.layer@i(h)",
          "self.layer@i = nn.TransformerEncoderLayer(@d, 2, @d, dropout=@p, batch_first=True)"),
    _drop("attention, rate or zero", "h = self.att@i(h)", "self.att@i = Attention(@d, @p)",
          _ATTENTION),
    _drop("attention by hand",
          "a = (h @ h.transpose(1, 2)).softmax(-1)\nh = F.dropout(a, @p, self.training) @ h"),
    _drop("convolution", "h = self.drop@i(self.conv@i(h))",
          "self.conv@i = nn.Conv1d(@t, @t, 3, padding=1)\nself.drop@i = nn.Dropout1d(@p)"),
    _drop("rows by index", "h = torch.stack([F.dropout(row, @p, self.training) for row in h])"),
    _drop("half of the features",
          "a, b = h.split([2, @d - 2], dim=-1)\n"
          "h = torch.cat([F.dropout(a, @p, self.training), b], dim=-1)"),
    _drop("written into a slice",
          "h = h.clone()\nh[:, :1] = F.dropout(h[:, :1], @p, self.training)"),
    _drop("written into zeros",
          "out = torch.zeros_like(h)\nout[..., 1:] = F.dropout(h, @p, self.training)[..., 1:]\n"
          "h = out + h"),
    _drop("added in place", "h = h * 1.0\nh += F.dropout(r, @p, self.training)"),
)  # fmt: skip

PLAIN = (
    Piece("linear", "h = self.lin@i(h)", "self.lin@i = nn.Linear(@d, @d)"),
    Piece("shared linear", "h = torch.tanh(self.shared(h))"),
    Piece("tied weights", "h = F.linear(h, self.shared.weight.t())"),
    Piece("tanh", "h = torch.tanh(h)"),
    Piece("relu in place", "h = F.relu(h * 1.0, inplace=True) + 0.1 * h"),
    Piece("keep", "r = h"),
    Piece("keep a copy", "r = h.clone()"),
    Piece("residual", "h = h + r"),
    Piece("gate", "h = h * torch.sigmoid(r)"),
    Piece("layer norm", "h = self.norm@i(h)", "self.norm@i = nn.LayerNorm(@d)"),
    Piece("batch norm", "h = self.norm@i(h)", "self.norm@i = nn.BatchNorm1d(@t)"),
    Piece("group norm", "h = F.group_norm(h, 1)"),
    Piece("convolution", "h = self.conv@i(h.transpose(1, 2)).transpose(1, 2)",
          "self.conv@i = nn.Conv1d(@d, @d, 1)"),
    Piece("add in place", "h = h * 1.0\nh += 0.5\nh *= 0.9"),
    Piece("write a column", "h = h * 1.0\nh[..., 0] = 0.3"),
    Piece("write a row", "h = h * 1.0\nh[:, 0] += h[:, -1]"),
    Piece("copy into a buffer", "out = torch.empty(h.shape)\nout.copy_(h)\nh = out"),
    Piece("scatter", "out = torch.zeros(h.shape)\n"
          "h = out.scatter_(2, torch.zeros(h.shape, dtype=torch.long), h) + h"),
    Piece("index add", "out = torch.zeros(h.shape)\n"
          "h = out.index_add_(2, torch.arange(@d).flip(0), h)"),
    Piece("index put", "out = torch.zeros(h.shape)\nout[:, torch.arange(@t)] = h\nh = out"),
    Piece("masked fill", "h = h.masked_fill(r > 0.5, 0.1)"),
    Piece("write where", "h = h * 1.0\nh[r > 0.9] = 0.2"),
    Piece("view", "h = h.reshape(h.shape[0], -1).view(h.shape)"),
    Piece("unbind", "h = torch.stack(h.unbind(1)[::-1], dim=1)"),
    Piece("chunks", "a, b = h.chunk(2, dim=-1)\nh = torch.cat([b, a], dim=-1)"),
    Piece("flip", "h = h.flip(1)"),
    Piece("einsum", "h = torch.einsum('nti,ij->ntj', h, self.shared.weight)"),
    Piece("expand", "h = h + h.mean(1, keepdim=True).expand(-1, @t, -1)"),
    Piece("top", "h = h.sort(dim=-1).values"),
    Piece("cumulative", "h = h.cumsum(1) / @t"),
    Piece("autograd function", "h = Squashed.apply(h)", top=_FUNCTION),
    Piece("no gradient", "with torch.no_grad():\n    h = h * 0.7"),
    Piece("state", "self.last = h\nh = h + 0.1 * self.last", "self.last = None", state=True),
    Piece("view of state", "self.cache@i = h * 1.0\nv = self.cache@i[:, :1]\nv += 0.2\n"
          "h = h + self.cache@i", "self.cache@i = None", state=True),
    Piece("counter", "self.count@i += 1\nh = h * 0.9",
          "self.register_buffer('count@i', torch.zeros(()))", state=True),
    Piece("log", "self.log@i.append(h.mean())", "self.log@i = []", state=True),
    Piece("cached once", "if self.scale@i is None:\n    self.scale@i = h.std()\n"
          "h = h * self.scale@i", "self.scale@i = None", state=True),
    Piece("branch on a value", "if float(h.sum()) > 0:\n    h = h * 1.1"),
    Piece("noise in eval mode", "h = h + 0.1 * torch.randn_like(h)", raw=1),
    Piece("uniform in eval mode", "h = h * torch.rand(@t, 1)", raw=1),
    Piece("bernoulli in eval mode", "h = h * torch.bernoulli(torch.full((@d,), 0.7))", raw=1),
    Piece("checked by a flag", "if self.training and h is None:\n    h = r"),
)  # fmt: skip


@dataclass(frozen=True)
class Output:
    """What `forward` returns.

    Attributes:
        lines: The last lines of `forward`.
        select: Which part is the prediction, as `mcdrop` takes it.
    """

    lines: str
    select: str | int | None = None


OUTPUTS = (
    Output("return self.leave(h)"),
    Output("return self.leave(h.mean(1))"),
    Output("return self.leave(h), r", 0),
    Output("return r.detach(), h", 1),
    Output("return {'y': self.leave(h), 'h': h}", "y"),
    Output("if h.ndim == 3:\n    return self.leave(h[:, -1])\nreturn self.leave(h)"),
    Output("return h[:, 0]"),
    Output("return self.leave(h).squeeze(-1).sum(-1)"),
)
