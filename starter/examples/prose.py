"""What the handbook says around its facts: chapter names, opening sentences, and pages without any fact."""

INTRO = {
    "en": {
        "store": "This page is kept by the store itself. Head office prints it twice a year.",
        "people": "Please ask at the desk before you visit somebody in the back office.",
        "product": "These sheets go out to every store. Put them in the folder by the counter.",
        "staff": "The directory lists colleagues who asked to be in it. Changes go to head office.",
        "policy": "Read this chapter before you sign up a customer. If in doubt, ask first and sign later.",
        "price": "Each line below has its own shelf card. Old cards go back to the print room.",
        "memo": "Please pin this up in the staff room and pass it on to the late shift.",
    },
    "zh": {
        "store": "本页由门店自己编写，总部每年检查两次。",
        "people": "来访前请先在服务台登记。",
        "product": "本册发到每家门店，请放在柜台旁边。",
        "staff": "名册只列出同意公开的同事，有变动请告诉总部。",
        "policy": "给顾客办理之前请先读完本章，不清楚就先问。",
        "memo": "请贴在休息室，并转告晚班同事。",
    },
}
# path, language, (heading, level, paragraphs …) …
ABOUT = [
    (
        "about/about-us.md",
        "en",
        (
            "About Larkfield",
            1,
            "Larkfield began as a single barn full of second-hand furniture. The founders drove the van themselves and "
            "wrote every price by hand.",
            "Today we sell things for the home: light, warmth, tools and somewhere soft to sit. We still answer every "
            "letter, and we still think that a good chair is worth waiting for.",
        ),
        (
            "How we work",
            2,
            "We would rather say nothing than say something wrong. If you do not know, say so and find out together "
            "with the customer.",
        ),
        (
            "How to use this handbook",
            3,
            "Stores, goods, colleagues and customer plans each have their own pages. Look for the name first, then for "
            "the detail.",
        ),
    ),
    (
        "about/opening-note.html",
        "en",
        (
            "A note before you open the doors",
            1,
            "Good morning. Switch on the lights at the back first, then the ones at the front, so that nobody walks "
            "into a dark shop.",
        ),
        (
            "Tidy first",
            2,
            "Sweep the entrance, straighten the mats and bring the trolleys in from the rain. A tidy entrance sells "
            "more than any poster.",
        ),
    ),
    (
        "about/关于云雀.md",
        "zh",
        (
            "关于云雀",
            1,
            "云雀家居从一间旧仓库开始，最早只卖二手家具。",
            "今天我们出售家里用的各种东西，仍然坚持一个原则：不知道就直说。",
        ),
        ("怎样使用手册", 2, "门店、商品、员工和服务方案各有自己的页面。先找名称，再找细节。"),
    ),
]
RANGES = ["Lighting", "Kitchen", "Garden", "Bedroom", "Workshop", "Living room"]
REGIONS = ["North", "South"]
CHAPTERS = ["Cards", "Clubs", "Students", "Seasons", "Trade", "Families", "Weekends", "Gardens"]
MEMOS = [
    "New arrivals",
    "Change of plans",
    "Moving shelves",
    "After the refit",
    "Autumn news",
    "From the regions",
    "Corrections",
    "Late additions",
    "Winter news",
    "For the noticeboard",
    "Spring stock",
    "Summer news",
]
ZH_CHAPTERS = ["会员卡", "家庭方案", "季节方案"]
ZH_MEMOS = ["新品通知", "门店变动", "货架调整", "秋季消息", "补充说明", "冬季消息"]
