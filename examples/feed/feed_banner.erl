%%% @doc What a person sees who starts the feed: where it is, and how to listen.
-module(feed_banner).
-export([show/2]).

%% @doc Print the address, the topics, and lines to paste that subscribe.
show(Uri, Topics) ->
    io:format(
        "~n"
        "  ~ts~n"
        "~n"
        "Topics:~n"
        "~ts"
        "~n"
        "Subscribe, from another terminal:~n"
        "  make watch TOPIC=prices~n"
        "  python3 -m websockets '~ts?topic=prices'          (pip install websockets)~n"
        "  npx wscat -c '~ts?topic=prices,action:Notify'~n"
        "  websocat '~ts?topic=*'~n"
        "~n"
        "Ctrl-C ends the feed.~n",
        [Uri, [["  ", Topic, $\n] || Topic <- Topics], Uri, Uri, Uri]
    ).
