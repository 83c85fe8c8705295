"""Crawl a page of this machine's file system and keep the items."""

import pathlib
import time

import scrapy
from scrapy.crawler import CrawlerProcess

ITEMS = []
PAGE = pathlib.Path("page.html").absolute()
PAGE.write_text("<ul>" + "".join(f"<li><b>{i}</b>text {i}</li>" for i in range(20_000)) + "</ul>")


class Spider(scrapy.Spider):
    """A spider of one page."""

    name = "one"
    start_urls = [PAGE.as_uri()]

    def parse(self, response):
        """Keep an item for each element."""
        for element in response.xpath("//li"):
            ITEMS.append({"text": element.xpath("text()").get(), "raw": element})


process = CrawlerProcess({"LOG_ENABLED": False, "TELNETCONSOLE_ENABLED": False})
process.crawl(Spider)
process.start()
time.sleep(1.5)
print(len(ITEMS), ITEMS[-1]["text"])
