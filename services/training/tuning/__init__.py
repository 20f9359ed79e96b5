"""Tuning the backbone itself: `driftline tune`.

config      what can be chosen
signals     what texts are tuned on: labels, values, who had what when
network     the model under tuning, its modes (head, LoRA, full), its folder
outcomes    a metric on held-out data and how it changed, with intervals
retrieval   next-period new items by mean-pooled cosine: the metric that every objective also moves
contrastive, supervised, language    the objectives
loop        the steps: clipping, early stopping
tune        all of it, from texts to a folder
result      what a reader is told
command     from the stored events
"""
